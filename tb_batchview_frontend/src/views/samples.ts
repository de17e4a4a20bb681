// Samples of the range: the Samples tab, and the panel that opens under the confusion matrix.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { ID_SORTS, isMulticlass, RANGE_SORTS } from "../choice.js";
import { className, count, figure, idName, many, score } from "../format.js";
import {
  filterQuery,
  hasFilter,
  isChosen,
  NO_FILTER,
  PRESETS,
  type Preset,
  readNumber,
  type Span,
  spanWords,
  withEnd,
} from "../sample_filter.js";
import { OUTCOMES } from "../selection.js";
import type { Store } from "../state.js";
import type { Outcome, Sample } from "../types.js";
import { joinedPanel } from "./compare_samples.js";
import { dataMapPanel } from "./data_map.js";
import { chosenSamples } from "./download.js";
import { inputColumns } from "./input.js";
import { chip, filterChips, offChip, waiting } from "./parts.js";
import { sampleView } from "./sample.js";
import { isOpen, openSample, sampleColumns } from "./sample_columns.js";
import { csvButton } from "./save.js";
import "./table.js";

/** Past so many classes a list to choose from is no help: search in the sidebar, or click in the matrix. */
const MOST_LISTED = 200;

const OUTCOME_NAMES: Record<Outcome, string> = {
  all: "all",
  correct: "correct",
  wrong: "wrong",
  confidently_wrong: "confidently wrong",
};

function samplesTable(store: Store, primary: boolean): TemplateResult {
  const { samples } = store;
  const { outcome, target, predicted, start, stop, tab } = store.selection;
  const { sampleSort } = store;
  const figures = tab === "samples" && samples.head?.samples.some(({ dynamics }) => dynamics) === true;
  const filter = tab === "samples" ? filterQuery(store.selection) : null;
  if (samples.head === null) return waiting(samples.error, samples.loading, "No samples in this range.");
  return html`${samples.error === null ? nothing : html`<p class="bad" role="alert">${samples.error}</p>`}
    <bv-table
      id="samples"
      data-testid="samples-table"
      ?data-primary=${primary}
      label="Samples of the range"
      .columns=${sampleColumns({
        output: store.chosen?.output ?? null,
        names: store.classNames,
        batch: true,
        values: true,
        input: inputColumns(store),
        ids: samples.head.identified,
        figures,
        sortable: figures ? ID_SORTS : RANGE_SORTS,
      })}
      .rows=${samples}
      .sort=${sampleSort}
      .subject=${JSON.stringify([sampleSort, outcome, target, predicted, start, stop, filter])}
      .onSort=${(sort: typeof sampleSort) => store.select({ sampleSort: sort })}
      .onPick=${(row: Sample) => openSample(store, row)}
      .isPicked=${isOpen(store)}
    ></bv-table>
    ${samples.total === 0 ? html`<p class="state" data-testid="no-match">No sample of the range matches these filters.</p>` : nothing}`;
}

/** What the class filters choose, in words: "target 3, predicted 5". */
export function filterWords(store: Store): string {
  const { target, predicted } = store.selection;
  const names = store.classNames;
  return [
    target === null ? "" : `target ${className(names, target)}`,
    predicted === null ? "" : `predicted ${className(names, predicted)}`,
  ]
    .filter((part) => part !== "")
    .join(", ");
}

function outcomeChips(store: Store): TemplateResult {
  return html`<div class="chips" role="group" aria-label="Which samples">
    ${OUTCOMES.map((outcome) =>
      chip(
        OUTCOME_NAMES[outcome],
        store.selection.outcome === outcome,
        () => store.select({ outcome }),
        `outcome-${outcome}`,
      ),
    )}
    ${filterChips(store, (index) => className(store.classNames, index))}
  </div>`;
}

/** The samples of the cell, the row or the column that was clicked. */
export function samplesPanel(store: Store): TemplateResult {
  return html`<section class="panel" aria-label="Samples of the choice" data-testid="confusion-samples">
    <div class="head" data-choice=${JSON.stringify([store.selection.target, store.selection.predicted])}>
      <h2>${filterWords(store)}</h2>
      <span class="quiet small">${store.samples.head === null ? "" : many(store.samples.total, "sample")} · a row opens its scores</span>
      <span class="end small"><button type="button" class="link"
        @click=${() => store.select({ tab: "samples" })}>open in Samples</button>
        ${csvButton(store, "chosen-samples", () => chosenSamples(store, new AbortController().signal))}</span>
    </div>
    ${outcomeChips(store)}
    ${samplesTable(store, false)}
    ${sampleView(store)}
  </section>`;
}

/** What a preset is for; the one that is chosen, if any. */
function presetRow(store: Store, classes: boolean, identified: boolean): TemplateResult {
  const { selection } = store;
  const presets = PRESETS.filter((preset) => (identified || !preset.ids) && (classes || !preset.classes));
  const chosen = presets.find((preset) => isChosen(preset, selection));
  const choose = ({ choice }: Preset): void => store.select({ ...choice, sample: null });
  return html`<div class="chips" role="group" aria-label="Presets">
      <span class="label">Presets</span>
      ${presets.map((preset) => chip(preset.label, preset === chosen, () => choose(preset), `preset-${preset.key}`))}
      ${identified && classes ? chip("data map", selection.map, () => store.select({ map: !selection.map }), "map-toggle") : nothing}
    </div>
    ${chosen === undefined ? nothing : html`<p class="quiet small" role="status" data-testid="preset-note">${chosen.note}</p>`}`;
}

function classSelect(store: Store, which: "target" | "predicted"): TemplateResult | typeof nothing {
  const classes = store.chosen?.output?.classes ?? 0;
  if (classes > MOST_LISTED) return nothing;
  const value = store.selection[which];
  const set = (event: Event): void => {
    const text = (event.target as HTMLSelectElement).value;
    store.select({ [which]: text === "" ? null : Number(text) });
  };
  return html`<select aria-label=${`${which} class`} data-testid=${`choose-${which}`} @change=${set}>
    <option value="" .selected=${live(value === null)}>any ${which}</option>
    ${Array.from(
      { length: classes },
      (_, index) =>
        html`<option value=${index} .selected=${live(index === value)}>${className(store.classNames, index)}</option>`,
    )}
  </select>`;
}

/**
 * A box for text: what is typed is taken when it is left, or with Enter. Until then no render may touch it (so no
 * `live`); afterwards it shows what was understood.
 */
function textBox(
  hook: string,
  words: string,
  hint: string,
  text: string,
  take: (text: string) => string,
): TemplateResult {
  const change = (event: Event): void => {
    const box = event.target as HTMLInputElement;
    box.value = take(box.value);
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape") return;
    (event.target as HTMLElement).blur();
    event.stopPropagation();
  };
  const search = hook === "id-search";
  return html`<input id=${hook} class=${search ? "ids" : "narrow"} type=${search ? "search" : "text"} inputmode=${search ? "search" : "decimal"}
    autocomplete="off" maxlength="1000" aria-label=${words} placeholder=${hint} data-testid=${hook}
    .value=${text} @change=${change} @search=${change} @keydown=${onKey} />`;
}

function spanInputs(store: Store, which: "confidence" | "loss"): TemplateResult {
  const end = (place: 0 | 1): TemplateResult => {
    const now = (): string => store.selection[which]?.[place]?.toString() ?? "";
    return textBox(
      `${which}-${place === 0 ? "min" : "max"}`,
      `${place === 0 ? "least" : "greatest"} ${which}`,
      place === 0 ? "from" : "to",
      now(),
      (text) => {
        store.select({ [which]: withEnd(store.selection[which], place, readNumber(text)) });
        return now();
      },
    );
  };
  return html`<span>${which} ${end(0)} – ${end(1)}</span>`;
}

const idSearch = (store: Store): TemplateResult =>
  textBox("id-search", "part of an id", "/ search an id", store.selection.idPart, (idPart) => {
    store.select({ idPart, id: "" });
    return idPart;
  });

/** The filters that are set, each with a button that takes it off. */
function setFilters(store: Store): TemplateResult {
  const { selection } = store;
  const { confidence, loss, id, idPart, each, learning, box, start, stop } = selection;
  const spanChip = (which: string, span: Span | null, words: (value: number) => string): unknown =>
    span === null
      ? nothing
      : offChip(
          `${which} ${spanWords(span, words)}`,
          () => store.select({ [which]: null }),
          `filter-${which}`,
        );
  const many = hasFilter(selection) || selection.outcome !== "all";
  return html`${filterChips(store, (index) => className(store.classNames, index))}
    ${spanChip("confidence", confidence, score)} ${spanChip("loss", loss, figure)}
    ${id === "" ? nothing : offChip(`id ${idName(id)}`, () => store.select({ id: "" }), "filter-id")}
    ${idPart === "" ? nothing : offChip(`id holds ${idName(idPart)}`, () => store.select({ idPart: "" }), "filter-id-part")}
    ${learning === "all" ? nothing : offChip(learning.replace("_", " "), () => store.select({ learning: "all" }), "filter-learning")}
    ${each === "all" ? nothing : offChip("each id once", () => store.select({ each: "all" }), "filter-each")}
    ${box === null ? nothing : offChip("box of the data map", () => store.select({ box: null }), "filter-box")}
    ${
      start === null && stop === null
        ? nothing
        : offChip(
            `batches ${start === null ? "" : count(start)}–${stop === null ? "" : count(stop - 1)}`,
            () => store.select({ start: null, stop: null }),
            "filter-range",
          )
    }
    ${
      many
        ? html`<button type="button" class="link small" data-testid="filters-off"
          @click=${() => store.select({ ...NO_FILTER, outcome: "all", target: null, predicted: null })}>take all off</button>`
        : nothing
    }`;
}

function filterRow(store: Store, classes: boolean, identified: boolean): TemplateResult {
  return html`<div class="chips ranges" role="group" aria-label="Filters">
    ${
      classes
        ? OUTCOMES.map((outcome) =>
            chip(
              OUTCOME_NAMES[outcome],
              store.selection.outcome === outcome,
              () => store.select({ outcome }),
              `outcome-${outcome}`,
            ),
          )
        : nothing
    }
    ${classes ? html`${classSelect(store, "target")}${classSelect(store, "predicted")}${spanInputs(store, "confidence")}` : nothing}
    ${spanInputs(store, "loss")}
    ${
      identified
        ? html`${idSearch(store)}${
            store.selection.each === "all"
              ? chip("each id once", false, () => store.select({ each: "last" }), "each-last")
              : nothing
          }`
        : nothing
    }
    ${setFilters(store)}
  </div>`;
}

export function samplesView(store: Store): TemplateResult {
  const classes = isMulticlass(store.chosen?.output ?? null);
  const { head } = store.samples;
  const identified = head?.identified === true;
  const open = store.selection.sample !== null;
  const map = identified && classes && store.selection.map;
  return html`${store.versus.joins ? joinedPanel(store) : nothing}<div class="head">
      <h2>Samples</h2>
      <span class="quiet small" data-testid="samples-count">${head === null ? "" : `${count(store.samples.total)} match`} · as the model saw them in their batch</span>
      ${
        head === null || identified
          ? nothing
          : html`<span class="quiet small" data-testid="no-ids">identity unknown: to follow samples from epoch to epoch, record their ids:
            <code>model.fit(with_ids(x, ids), y)</code> or <code>writer.add_batch(…, sample_ids=ids)</code></span>`
      }
    </div>
    ${presetRow(store, classes, identified)}
    ${filterRow(store, classes, identified)}
    <div class=${open || map ? "columns samples" : ""}>
      <div class="panel">${samplesTable(store, true)}</div>
      ${open || map ? html`<div class="stack">${sampleView(store)}${map ? dataMapPanel(store) : nothing}</div>` : nothing}
    </div>`;
}
