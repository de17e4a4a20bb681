// The sentence above the content that says what is shown, and the banners above it.

import { html, nothing, type TemplateResult } from "lit";
import type { Chosen } from "../choice.js";
import { className, count, exact, figure, many, score } from "../format.js";
import { spanWords } from "../sample_filter.js";
import type { Order } from "../selection.js";
import type { Store } from "../state.js";
import type { DataProvider, Health, PhaseSummary } from "../types.js";
import { errorLabel, errorText } from "./error_words.js";

/** The least and the greatest epoch that a range of steps touches; one may begin again. */
export function epochsOf(
  epochs: readonly { epoch: number; step: number }[],
  first: number,
  last: number,
): [number, number] | null {
  const touched = epochs
    .filter(
      ({ step }, index) => step <= last && (epochs[index + 1]?.step ?? Number.POSITIVE_INFINITY) > first,
    )
    .map(({ epoch }) => epoch);
  return touched.length === 0 ? null : [Math.min(...touched), Math.max(...touched)];
}

const ORDER_WORDS: Record<Order, string> = {
  index: "",
  name: ", ordered by name",
  support: ", most samples first",
  errors: ", most errors first",
  clustered: ", confusable classes together",
};

const TAIL: Record<string, (store: Store) => string> = {
  batches: () => "loss of each batch, not a running mean",
  classes: ({ selection, chosen }) =>
    chosen?.output?.task === "multiclass" || chosen?.output?.task === "binary"
      ? `rows are targets${selection.cells === "count" ? "" : `, shares of the ${selection.cells}`}${ORDER_WORDS[selection.order]}${selection.log ? ", logarithmic colour" : ""}`
      : "",
  samples: ({ selection, classNames }) =>
    [
      selection.outcome === "all" ? "" : `only ${selection.outcome.replace("_", " ")}`,
      selection.target === null ? "" : `target ${className(classNames, selection.target)}`,
      selection.predicted === null ? "" : `predicted ${className(classNames, selection.predicted)}`,
      selection.confidence === null ? "" : `confidence ${spanWords(selection.confidence, score)}`,
      selection.loss === null ? "" : `loss ${spanWords(selection.loss, figure)}`,
      selection.learning === "all" ? "" : selection.learning.replace("_", " "),
      selection.each === "last" ? "each id as it was seen last" : "",
    ]
      .filter((part) => part !== "")
      .join(", "),
  layers: () => "activations of the pass the loss saw",
};

export function sentenceView(store: Store, { phase, output, run }: Chosen): TemplateResult {
  const { summary } = store;
  if (phase === null)
    return html`<p class="sentence" data-testid="sentence">${run.name} ${run.indexing === null ? "has no batches yet" : "is still being read"}.</p>`;
  if (summary === null)
    return html`<p class="sentence" data-testid="sentence">${phase.name} · ${count(phase.batches)} batches</p>`;
  if (summary.batches === 0 || summary.first_step === null || summary.last_step === null) {
    return html`<p class="sentence" data-testid="sentence">${phase.name} · <b>no batches in this range</b> · the run has ${count(phase.first_step)}–${count(phase.last_step)}</p>`;
  }
  const epochs = epochsOf(store.overview.value?.header.epochs ?? [], summary.first_step, summary.last_step);
  const epochWords =
    epochs === null
      ? ""
      : epochs[0] === epochs[1]
        ? ` · epoch ${count(epochs[0])}`
        : ` · epochs ${count(epochs[0])}–${count(epochs[1])}`;
  const tail = TAIL[store.selection.tab]?.(store) ?? "";
  return html`<p class="sentence" data-testid="sentence">${phase.name} · ${
    store.ranged
      ? html`batches <b>${count(summary.first_step)}–${count(summary.last_step)}</b> of ${count(phase.batches)}`
      : run.indexing !== null
        ? html`<b>${many(summary.batches, "batch", "batches")}</b> read so far`
        : html`all <b>${many(summary.batches, "batch", "batches")}</b>`
  }${epochWords} · <b>${many(summary.samples, "sample")}</b>${
    summary.error_rate === null
      ? nothing
      : html` · ${errorLabel(output)} <b title=${exact(summary.error_rate)}>${errorText(output, summary.error_rate)}</b>`
  } · mean loss <b title=${exact(summary.loss)}>${figure(summary.loss)}</b>${tail === "" ? "" : ` · ${tail}`}</p>`;
}

/** What is wrong with the files of a run, in sentences. */
export function healthWords(health: Health): string[] {
  const some = (value: number, one: string, more: string, rest: string): string[] =>
    value > 0 ? [`${count(value)} ${value === 1 ? one : more} ${rest}`] : [];
  return [
    ...some(health.corrupt_records, "record is", "records are", "corrupt and left out."),
    ...some(
      health.refused_files,
      "file was",
      "files were",
      "not read: written by a newer version. Update tb_batchview.",
    ),
    ...some(
      health.dropped_batches,
      "batch was",
      "batches were",
      "dropped while recording, because the disk did not keep up.",
    ),
    ...health.warnings.map(({ message, count: times }) =>
      times > 1 ? `${message} (${count(times)} times)` : message,
    ),
  ];
}

/** What the runs were read through, if not from files, and what it kept of a phase. */
export function providerWords({ failure }: DataProvider, phase: PhaseSummary | null): string[] {
  const kept = `${count(phase?.batches ?? 0)} of ${many(phase?.seen ?? 0, "batch", "batches")}`;
  return [
    `Read through TensorBoard’s data provider, which kept ${kept}.`,
    ...(failure === "" ? [] : [`It could not be asked for what is new: ${failure}. It is tried again.`]),
  ];
}

export function bannersView(store: Store, { run, phase }: Chosen): TemplateResult {
  const words = healthWords(run.health);
  const provider = store.runs.value?.data_provider ?? null;
  const problem =
    store.runs.error ??
    store.detail.error ??
    (store.overview.value === null ? null : store.overview.error) ??
    (store.ranged ? store.range.error : null);
  const wanted = store.selection.run;
  return html`${
    problem === null
      ? nothing
      : html`<div class="banner error" role="alert" data-testid="error"><span>${problem}</span><button type="button" class="link"
        @click=${() => store.refresh()}>try again</button></div>`
  }${
    wanted === "" || wanted === run.name
      ? nothing
      : html`<div class="banner" role="status" data-testid="missing-run">The run “${wanted}” of this link is not in the log directory; “${run.name}” is shown.</div>`
  }${
    provider === null
      ? nothing
      : html`<div class="banner" role="status" data-testid="provider"><span>${providerWords(provider, phase).join(" ")}</span><button
          type="button" class="link" @click=${() => store.set({ checkup: true })}>what to do</button></div>`
  }${
    words.length === 0
      ? nothing
      : html`<div class="banner" role="status" data-testid="health">${
          words.length === 1 ? words[0] : html`<ul>${words.map((line) => html`<li>${line}</li>`)}</ul>`
        } <button type="button" class="link" @click=${() => store.set({ checkup: true })}>what to do</button></div>`
  }`;
}
