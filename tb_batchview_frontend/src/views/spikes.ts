// The batches whose loss stands out: which batch broke it, how far it was off, and on what.

import { html, nothing, type TemplateResult } from "lit";
import { count, exact, figure, many, percent, times } from "../format.js";
import type { Sort } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, Output, Spike, TimelineHeader } from "../types.js";
import { side } from "./compare_parts.js";
import { ERROR_HEADS, errorText } from "./error_words.js";
import { cellBar } from "./parts.js";
import { csvButton, spikeSheet } from "./save.js";
import type { TableColumn } from "./table.js";
import "./table.js";
import { worstColumns } from "./worst.js";

/** A loss that is not finite comes before every other, as in the answer. */
const rank = (value: number | null): number =>
  value === null || Number.isNaN(value) ? Number.POSITIVE_INFINITY : value;

export function sortSpikes(spikes: readonly Spike[], { column, descending }: Sort): Spike[] {
  const key = column as "step" | "loss" | "ratio" | "error_rate";
  const sign = descending ? -1 : 1;
  // Infinity minus itself is NaN, which would put equals in any order.
  return [...spikes].sort((a, b) => {
    const [left, right] = [rank(a[key]), rank(b[key])];
    return left === right ? 0 : left < right ? -sign : sign;
  });
}

export const spikeWords = ({ loss, ratio }: Spike): string =>
  ratio === null ? `loss ${figure(loss)}` : `${times(ratio)} the batches before`;

type Names = readonly string[] | null;

function columns(output: Output | null, names: Names, spikes: readonly Spike[]): TableColumn<Spike>[] {
  const most = Math.max(0, ...spikes.map(({ ratio }) => ratio ?? 0));
  return [
    {
      key: "step",
      label: "Batch",
      width: 60,
      number: true,
      sortable: true,
      cell: ({ step }) => count(step),
      hint: ({ epoch }) => (epoch === null ? "" : `epoch ${count(epoch)}`),
    },
    {
      key: "loss",
      label: "Loss",
      width: 64,
      number: true,
      sortable: true,
      cell: ({ loss }) => figure(loss),
      hint: ({ loss }) => exact(loss),
    },
    {
      key: "ratio",
      label: "Ratio",
      title: "loss, as a multiple of the median of the up to 50 batches before",
      width: 66,
      number: true,
      sortable: true,
      cell: ({ ratio }) => (ratio === null ? "–" : cellBar(ratio, most, times(ratio))),
      hint: ({ ratio }) =>
        ratio === null ? "the first batch of a streak without a finite loss" : exact(ratio),
    },
    {
      key: "error_rate",
      label: output?.task === "regression" ? ERROR_HEADS.regression : "Error",
      title: ERROR_HEADS[output?.task ?? "multiclass"],
      width: 60,
      number: true,
      sortable: true,
      cell: ({ error_rate }) =>
        output?.task === "regression" ? errorText(output, error_rate) : percent(error_rate),
      hint: ({ error_rate }) => exact(error_rate),
    },
    ...worstColumns<Spike>(output, names, { label: "Mostly", width: 128 }),
  ];
}

interface Listed {
  timeline: Block<TimelineHeader> | null;
  output: Output | null;
  names: Names;
  /** Of run B: its batches are not to be chosen. */
  second: boolean;
}

function listOf(
  store: Store,
  { timeline, output, names, second }: Listed,
  openBatch: (step: number) => void,
): TemplateResult {
  const spikes = sortSpikes(timeline?.header.spikes ?? [], store.spikeSort);
  const broken = Array.from(timeline?.arrays.nonfinite?.values ?? []).reduce((sum, some) => sum + some, 0);
  const hook = second ? "spikes-b" : "spikes";
  return html`<section class="panel" aria-label=${second ? "Spikes of run B" : "Spikes"} data-testid=${hook}>
    <div class="head line">
      ${store.other === null ? nothing : side(second ? "B" : "A")}<h2>${spikes.length === 1 ? "1 spike" : `${count(spikes.length)} spikes`}</h2>
      ${broken === 0 ? nothing : html`<span class="bad small" data-testid=${second ? "nonfinite-b" : "nonfinite"}>loss NaN or infinite in ${many(broken, "batch", "batches")}</span>`}
      <span class="end small">${csvButton(store, hook, () => spikeSheet(spikes, names))}</span>
    </div>
    <bv-table
      id=${hook}
      data-testid=${`${hook}-table`}
      label=${`Batches whose loss stands out${second ? ", of run B" : ""}`}
      .columns=${columns(output, names, spikes)}
      .rows=${{ total: spikes.length, row: (index: number) => spikes[index], want: () => undefined }}
      .sort=${store.spikeSort}
      .subject=${JSON.stringify(store.spikeSort)}
      .onSort=${(sort: Sort) => store.select({ spikeSort: sort })}
      .onPick=${second ? null : ({ step }: Spike) => store.pick(step)}
      .onOpen=${second ? null : ({ step }: Spike) => openBatch(step)}
      .isPicked=${({ step }: Spike) => !second && step === store.step}
    ></bv-table>
  </section>`;
}

/** The spikes of A, and of B below them; `null` where neither has any. */
export function spikesView(store: Store, openBatch: (step: number) => void): TemplateResult | null {
  const { chosen, classNames, other, timeline, versus } = store;
  const lists: Listed[] = [{ timeline, output: chosen?.output ?? null, names: classNames, second: false }];
  if (other !== null)
    lists.push({
      timeline: versus.timeline,
      output: other.output,
      names: versus.classNames,
      second: true,
    });
  const found = lists.filter((one) => (one.timeline?.header.spikes.length ?? 0) > 0);
  return found.length === 0
    ? null
    : html`<div class="stack spiked">${found.map((one) => listOf(store, one, openBatch))}</div>`;
}
