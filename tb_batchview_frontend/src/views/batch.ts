// The chosen batch: its class mix, its samples and its layers.

import { html, nothing, type TemplateResult } from "lit";
import { classColour } from "../charts/colour.js";
import { isMulticlass, SAMPLE_SORTS } from "../choice.js";
import { className, clock, count, exact, figure, many, percent, times } from "../format.js";
import type { Store } from "../state.js";
import type { BatchAnswer, LayerFigures, Outcome } from "../types.js";
import { inputColumns } from "./input.js";
import { amongButtons, chip, filterChips, number, tail, waiting } from "./parts.js";
import { sampleView } from "./sample.js";
import { isOpen, openSample, sampleColumns } from "./sample_columns.js";
import { batchLayerSheet, batchSampleSheet, csvButton } from "./save.js";
import "./table.js";

function title(store: Store, batch: BatchAnswer): TemplateResult {
  const place =
    batch.epoch === null ? "" : `epoch ${count(batch.epoch)}, batch ${count(batch.index)} in it · `;
  const wrong = store.chosen?.output?.task === "regression" ? "" : ` · ${count(batch.counts.wrong)} wrong`;
  const metrics = Object.entries(batch.metrics).map(
    ([name, value]) => html` · ${name} ${number(value, figure(value))}`,
  );
  const go = (step: number | null, words: string): TemplateResult =>
    html`<button type="button" class="link" ?hidden=${step === null}
      @click=${() => store.pick(step ?? batch.step)}>${words}</button>`;
  return html`<div class="head">
    <h2 data-testid="batch-title" aria-live="polite">Batch ${count(batch.step)}${
      store.selection.batch === null ? html` <span class="quiet">(the latest)</span>` : nothing
    }</h2>
    <span class="quiet small" title=${clock(batch.wall_time)}>${place}${many(batch.size, "sample")}${wrong} · loss ${number(
      batch.loss,
      figure(batch.loss),
    )}${metrics}</span>
    <span class="end small">${go(batch.previous, "← previous")} ${go(batch.next, "next →")}
      ${csvButton(store, "batch-samples", () => batchSampleSheet(store, batch.step))}</span>
  </div>`;
}

function outcomeChips(store: Store, { counts }: BatchAnswer): TemplateResult {
  const { outcome } = store.selection;
  const choices: [Outcome, string][] = [
    ["all", `all ${count(counts.all)}`],
    ["wrong", `wrong ${count(counts.wrong)}`],
    ...(isMulticlass(store.chosen?.output ?? null)
      ? [["confidently_wrong", `confidently wrong ${count(counts.confidently_wrong)}`] as [Outcome, string]]
      : []),
  ];
  return html`<div class="chips" role="group" aria-label="Which samples">
    ${choices.map(([value, label]) => chip(label, outcome === value, () => store.select({ outcome: value }), `outcome-${value}`))}
    ${outcome === "correct" ? chip("correct ✕", true, () => store.select({ outcome: "all" })) : nothing}
    ${filterChips(store, (index) => className(store.classNames, index))}
  </div>`;
}

function mixBar(store: Store, batch: BatchAnswer, which: "target" | "predicted"): TemplateResult {
  const names = store.classNames;
  // Both bars run through the classes in the same order, so that what has grown or shrunk stands out.
  const parts = [...batch.class_mix].sort((a, b) => a.class - b.class).filter((part) => part[which] > 0);
  const words = parts.map((part) => `${className(names, part.class)} ${count(part[which])}`).join(", ");
  const chosen = parts.findIndex((part) => part.class === store.selection[which]);
  return html`<span class="quiet small">${which}</span>
    <div class="mixbar" role="toolbar" aria-label=${`${which}: ${words}`} @keydown=${amongButtons}>${parts.map(
      (part, index) =>
        html`<button type="button"
          tabindex=${index === Math.max(0, chosen) ? 0 : -1}
          aria-pressed=${index === chosen}
          aria-label=${`${which} ${className(names, part.class)}: ${many(part[which], "sample")}`}
          .style=${`--share:${part[which]};--hue:${classColour(part.class)}`}
          title=${`${className(names, part.class)}: ${many(part[which], "sample")}`}
          @click=${() => store.select({ [which]: index === chosen ? null : part.class })}
        ><span>${part[which] / Math.max(1, batch.size) > 0.06 ? className(names, part.class) : ""}</span></button>`,
    )}</div>`;
}

function layersTable(store: Store, batch: BatchAnswer): TemplateResult {
  const head = (words: string | TemplateResult): TemplateResult =>
    html`<div class="head"><h2>Layers in this batch</h2><span class="quiet small">${words}</span>${
      batch.layers.length === 0
        ? nothing
        : html`<span class="end small">${csvButton(store, "batch-layers", () => batchLayerSheet(batch.layers))}</span>`
    }</div>`;
  if (batch.layers.length === 0) {
    const { summarised: nearest } = batch;
    return head(
      nearest === null
        ? "not summarised; histogram_freq says how often they are"
        : html`not summarised here, but in every histogram_freq-th batch: <button type="button" class="link" data-testid="summarised"
            @click=${() => store.select({ batch: nearest, sample: null })}>batch ${count(nearest)}</button>`,
    );
  }
  const changed = (now: number | null, then: number | null | undefined): string => {
    if (now === null || then === null || then === undefined || then === 0) return "";
    const ratio = Math.abs(now / then);
    return ratio >= 2 ? ` ▲ ${times(ratio)}` : ratio <= 0.5 ? ` ▼ ${times(ratio)}` : "";
  };
  const cells = (
    { before, ...now }: BatchAnswer["layers"][number],
    name: keyof LayerFigures,
    text: (value: number | null | undefined) => string,
  ): TemplateResult => {
    const mark = name === "std" ? changed(now.std, before?.std) : "";
    return html`<td class="number" title=${`${exact(now[name])}, before ${exact(before?.[name])}`}><span class=${mark === "" ? "" : "bad"}>${text(now[name])}${mark}</span></td>
      <td class="number quiet before" title=${exact(before?.[name])}>${text(before?.[name])}</td>`;
  };
  const heads = ["Mean", "Std", "Zeros"].map(
    (name) => html`<th scope="col" class="number">${name}</th>
      <th scope="col" class="number before" title=${`${name} in the up to 20 summaries before`}>before</th>`,
  );
  return html`${head("before: the mean of up to 20 summaries · ▲▼ spread doubled or halved")}<div class="wide"><table class="grid" data-testid="batch-layers" aria-label="Layers in this batch">
    <colgroup><col class="first" /></colgroup>
    <thead><tr><th scope="col">Layer</th>${heads}</tr></thead>
    <tbody>${batch.layers.map(
      (row) => html`<tr>
        <td title=${row.layer}><button type="button" class="link"
          @click=${() => store.select({ tab: "layers", layer: row.layer })}>${tail(row.layer)}</button></td>
        ${cells(row, "mean", figure)}${cells(row, "std", figure)}${cells(row, "zero_fraction", percent)}
      </tr>`,
    )}</tbody></table></div>`;
}

export function batchView(store: Store): TemplateResult {
  const { head: batch, error, loading } = store.batch;
  if (batch === null)
    return html`<section class="panel">${waiting(error, loading, store.unread ? `Batch ${count(store.step)} is not read yet.` : "No batch is chosen.")}</section>`;
  const { output } = store.chosen ?? { output: null };
  const { sample } = store.selection;
  const { sampleSort } = store;
  const opens = ` · a row opens its ${output?.task === "regression" ? "values" : "scores"}`;
  const rest = store.batch.total === 0 ? " of this kind in the batch" : opens;
  return html`<section class="stack" aria-label="The chosen batch" data-testid="batch">
    <div class="panel">
      ${title(store, batch)}
      ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
      ${output?.task === "regression" ? nothing : outcomeChips(store, batch)}
      <bv-table
        id="batch-samples"
        data-testid="batch-samples"
        class=${batch.step === store.step ? "" : "stale"}
        label=${`Samples of batch ${batch.step}`}
        .columns=${sampleColumns({ output, names: store.classNames, values: true, top: true, input: inputColumns(store), ids: store.batch.row(0)?.id != null, sortable: SAMPLE_SORTS })}
        .rows=${store.batch}
        .sort=${sampleSort}
        .subject=${`${store.step}${JSON.stringify(sampleSort)}${store.selection.outcome}${store.selection.target}/${store.selection.predicted}`}
        .onSort=${(sort: typeof sampleSort) => store.select({ sampleSort: sort })}
        .onPick=${(row: BatchAnswer["samples"][number]) => openSample(store, row)}
        .isPicked=${isOpen(store)}
      ></bv-table>
      <p class="quiet small">${many(store.batch.total, "sample")}${rest}</p>
      ${sample !== null && sample.step === store.step ? sampleView(store) : nothing}
    </div>
    <div class="duo">${
      batch.class_mix.length === 0
        ? nothing
        : html`<div class="panel" data-testid="class-mix"><div class="head"><h2>Class mix</h2>
          <span class="quiet small">samples of each class, in the targets and in the predictions</span></div>
          <div class="mix">${mixBar(store, batch, "target")}${mixBar(store, batch, "predicted")}</div></div>`
    }
    ${store.chosen?.run.layers.length === 0 ? nothing : html`<div class="panel">${layersTable(store, batch)}</div>`}</div>
  </section>`;
}
