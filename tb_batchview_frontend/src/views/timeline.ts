// The timeline of the Batches tab: loss and error rate of every batch, to brush and to click.

import { html, nothing, type TemplateResult } from "lit";
import type { Line } from "../charts/lines.js";
import "../charts/lines.js";
import type { Mark } from "../charts/marks.js";
import { topWithoutSpikes } from "../charts/scale.js";
import { count, figure, many, percentTick, tick } from "../format.js";
import type { Store } from "../state.js";
import type { Block, TimelineHeader } from "../types.js";
import { ERROR_HEADS, errorLabel, errorText } from "./error_words.js";
import { chip, waiting } from "./parts.js";
import { spikeWords } from "./spikes.js";

interface Drawn {
  loss: Line[];
  error: Line[];
  epochs: Mark[];
  spikes: Mark[];
  top: number | null;
}

/** The same objects for the same answer: a chart is drawn once for each, and not at every render. */
const known = new WeakMap<object, Drawn>();

function drawnOf(timeline: Block<TimelineHeader>): Drawn {
  const { header, arrays } = timeline;
  const drawn = known.get(timeline) ?? {
    loss: makeLines(timeline, "loss"),
    error: makeLines(timeline, "error"),
    epochs: header.epochs.map(({ epoch, step }) => ({ step, label: `epoch ${count(epoch)}` })),
    spikes: header.spikes.map((spike) => ({ step: spike.step, label: `▼ ${spikeWords(spike)}` })),
    top: topWithoutSpikes(arrays.loss_max?.values ?? []),
  };
  known.set(timeline, drawn);
  return drawn;
}

function makeLines(timeline: Block<TimelineHeader>, prefix: "loss" | "error"): Line[] {
  const column = (name: string): ArrayLike<number> => timeline.arrays[name]?.values ?? [];
  const decimated = timeline.header.bucket > 1;
  const what = prefix === "loss" ? "loss" : "mean";
  const band: Line[] = decimated
    ? [
        {
          label: "most",
          values: column(`${prefix}_max`),
          colour: "--accent-strong",
          faint: true,
          width: 0.5,
          band: true,
        },
        {
          label: "least",
          values: column(`${prefix}_min`),
          colour: "--accent-strong",
          faint: true,
          width: 0.5,
        },
      ]
    : [];
  const smooth: Line[] =
    prefix === "loss"
      ? [{ label: "running median", values: column("loss_smooth"), colour: "--accent", width: 2 }]
      : [];
  return [
    ...band,
    {
      label: decimated ? "mean" : what === "mean" ? "" : what,
      values: column(`${prefix}_mean`),
      colour: prefix === "loss" ? "--accent-strong" : "--accent",
      faint: prefix === "loss",
      width: 1,
    },
    ...smooth,
  ];
}

export function timelineView(store: Store): TemplateResult {
  const zoomed = store.ranged && store.selection.zoom;
  const { value: timeline, error } = zoomed ? store.range : store.overview;
  if (timeline === null) return waiting(error, true, "");
  const { header, arrays } = timeline;
  const output = store.chosen?.output ?? null;
  const { start, stop } = store.selection;
  const range =
    store.ranged && !zoomed
      ? ([start ?? header.first_step ?? 0, stop ?? (header.last_step ?? 0) + 1] as const)
      : null;
  const { epochs, spikes, top, ...lines } = drawnOf(timeline);
  const steps = arrays.step?.values ?? [];
  const shared = {
    onRange: (from: number, to: number): void => store.select({ start: from, stop: to }),
    onStep: (step: number): void => store.pick(step),
  };
  const bucket =
    header.bucket > 1 ? `each point ${count(header.bucket)} batches, with their least and greatest · ` : "";
  const axis = top === null || store.selection.logLoss ? "" : " · the axis leaves out spikes";
  const words = `${many(header.batches, "batch", "batches")}, mean loss ${figure(header.loss)}, ${many(header.spikes.length, "spike")}`;
  const rates = errorLabel(output);
  const marks = header.spikes.length === 0 ? "no spikes" : "▼ spikes";
  const controls = html`${
    store.ranged ? chip("only the range", zoomed, () => store.select({ zoom: !zoomed }), "zoom") : nothing
  }${chip("log loss", store.selection.logLoss, () => store.select({ logLoss: !store.selection.logLoss }), "log-loss")}`;
  return html`<section class="panel" data-testid="timeline" aria-label="Timeline">
    <bv-lines
      data-testid="timeline-loss"
      group="timeline"
      heading="Loss of every batch"
      hint=${`${bucket}strong line: running median · ${marks}${axis} · drag for a range, click for a batch`}
      label=${`Line chart: loss of every batch of ${store.chosen?.phase?.name}. ${words}.`}
      yLabel="loss"
      .steps=${steps}
      .lines=${lines.loss}
      .epochs=${epochs}
      .spikes=${spikes}
      .broken=${arrays.nonfinite?.values}
      .controls=${controls}
      .range=${range}
      .top=${top}
      .marker=${store.step}
      .onRange=${shared.onRange}
      .onStep=${shared.onStep}
      ?dark=${store.dark}
      ?log=${store.selection.logLoss}
      ?bare=${header.error_rate !== null}
      height="150"
    ></bv-lines>
    ${
      header.error_rate === null
        ? nothing
        : html`<bv-lines
          data-testid="timeline-error"
          group="timeline"
          heading=${rates.charAt(0).toUpperCase() + rates.slice(1)}
          label=${`Line chart: ${rates} of every batch. Mean ${errorText(output, header.error_rate)}.`}
          yLabel=${ERROR_HEADS[output?.task ?? "multiclass"].toLowerCase()}
          .steps=${steps}
          .lines=${lines.error}
          .range=${range}
          .marker=${store.step}
          .onRange=${shared.onRange}
          .onStep=${shared.onStep}
          .values=${(value: number | null) => errorText(output, value)}
          .ticks=${output?.task === "regression" ? tick : percentTick}
          ?dark=${store.dark}
          zero
          height="96"
        ></bv-lines>`
    }
  </section>`;
}
