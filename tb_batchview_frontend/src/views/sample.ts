// One sample: its facts and the scores of all classes, with the target and the predicted class marked.

import { html, nothing, type TemplateResult } from "lit";
import { className, count, exact, figure, idName, many, score } from "../format.js";
import type { Store } from "../state.js";
import type { SampleAnswer } from "../types.js";
import { scoreSheet } from "./download.js";
import { historyView } from "./history.js";
import { inputView } from "./input.js";
import { OUTCOME_LABELS, outcomeOf, waiting } from "./parts.js";
import { csvButton } from "./save.js";

const SHOWN = 100;

function fact(label: string, value: string, title?: string): TemplateResult {
  return html`<div><dt>${label}</dt><dd title=${title ?? nothing}>${value}</dd></div>`;
}

function scoreRows(store: Store, answer: SampleAnswer): TemplateResult {
  const names = store.classNames;
  const regression = store.chosen?.output?.task === "regression";
  const values = answer.scores.slice(0, SHOWN);
  const widest = regression
    ? Math.max(
        ...values.map((entry) => Math.abs(entry.score ?? 0)),
        ...(answer.target_values ?? []).map((value) => Math.abs(value ?? 0)),
      )
    : 1;
  return html`<div class="scores" role="list" aria-label=${regression ? "predicted values" : "scores of the classes"} data-testid="sample-scores">
    ${values.map((entry, index) => {
      const name = regression && names === null ? `value ${entry.class}` : className(names, entry.class);
      const wanted = answer.target_values?.[index];
      const kind =
        entry.class === answer.target || (!regression && wanted === 1)
          ? "target"
          : entry.class === answer.predicted
            ? "predicted"
            : "";
      const role =
        entry.class === answer.target
          ? " (target)"
          : entry.class === answer.predicted
            ? " (predicted)"
            : wanted === 1 && !regression
              ? " (target)"
              : "";
      const share = Math.min(1, Math.abs(entry.score ?? 0) / (widest || 1));
      return html`<span class="name" role="listitem" title=${name}>${name}${role}</span>
        <span class="track"><i class=${kind} .style=${`--share:${Number.isFinite(share) ? share : 0}`}></i></span>
        <span class="value" title=${exact(entry.score)}>${regression ? figure(entry.score) : score(entry.score)}${
          regression && wanted !== undefined
            ? html` <span class="quiet">target ${figure(wanted)}</span>`
            : nothing
        }</span>`;
    })}
  </div>
  ${answer.scores.length > SHOWN ? html`<p class="quiet small">The ${count(SHOWN)} largest of ${many(answer.classes, "score")}.</p>` : nothing}`;
}

export function sampleView(store: Store): TemplateResult | typeof nothing {
  const place = store.selection.sample;
  if (place === null) return nothing;
  const { value: answer, error, loading } = store.sample;
  const shown =
    answer !== null && answer.step === place.step && answer.sample === place.sample ? answer : null;
  const names = store.classNames;
  const outcome = shown === null ? null : outcomeOf(shown);
  return html`<section class="card" aria-label="Sample" data-testid="sample">
    <div class="head">
      <h2>${shown === null || shown.id === null ? `Sample #${place.sample}` : `Sample ${idName(shown.id)}`}</h2>
      <span class="quiet small">batch ${count(place.step)}${outcome === null ? "" : ` · ${OUTCOME_LABELS[outcome]}`}</span>
      <span class="end small">
        ${
          store.selection.tab === "batches"
            ? nothing
            : html`<button type="button" class="link"
              @click=${() => store.select({ tab: "batches", batch: place.step })}>go to batch ${count(place.step)}</button>`
        }
        ${shown === null || shown.scores.length === 0 ? nothing : csvButton(store, "sample-scores", () => scoreSheet(shown, names))}
        <button type="button" class="link" @click=${() => store.select({ sample: null })}>close</button>
      </span>
    </div>
    ${
      shown === null
        ? waiting(error, loading, "")
        : html`${inputView(store, shown)}<dl class="facts small">
            ${shown.target === null ? nothing : fact("target", className(names, shown.target))}
            ${shown.predicted === null ? nothing : fact("predicted", className(names, shown.predicted))}
            ${shown.confidence === null ? nothing : fact("confidence", score(shown.confidence), exact(shown.confidence))}
            ${fact("loss", figure(shown.loss), exact(shown.loss))}
            ${shown.weight === null || shown.weight === undefined ? nothing : fact("weight", figure(shown.weight), exact(shown.weight))}
          </dl>
          ${historyView(store, shown)}
          ${shown.scores.length === 0 ? html`<p class="quiet">The scores of this batch were not kept.</p>` : scoreRows(store, shown)}`
    }
  </section>`;
}
