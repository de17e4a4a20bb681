// The units of a layer over the batches: a heatmap, how many are dead, and which ones.

import { html, nothing, type TemplateResult } from "lit";
import { live } from "lit/directives/live.js";
import { extent, type TimeGrid } from "../charts/time_grid.js";
import "../charts/lines.js";
import "../charts/time_heatmap.js";
import { count, exact, exactPercent, figure, many, percent } from "../format.js";
import { UNIT_ORDERS, type UnitOrder } from "../selection.js";
import type { Store } from "../state.js";
import type { Block, DeadUnitsAnswer, UnitFigure, UnitList, UnitsHeader } from "../types.js";
import { pairwise, side } from "./compare_parts.js";
import { comparedLines } from "./compared_lines.js";
import { deadSheet, unitSheet } from "./layer_sheets.js";
import { chip, number, waiting } from "./parts.js";
import { csvButton } from "./save.js";

type Units = Block<UnitsHeader>;

const FIGURES: Record<UnitFigure, string> = {
  mean: "mean",
  zero_fraction: "zeros",
  saturated_fraction: "saturated",
};
const ORDERS: Record<UnitOrder, string> = { index: "number", mean: "mean", zeros: "share of zeros" };

const column = ({ arrays }: Units, name: string): ArrayLike<number> => arrays[name]?.values ?? [];

/** Places of the units in an order; those without the figure stand last. */
export function orderUnits(units: Units, order: UnitOrder): number[] {
  const places = Array.from(column(units, "unit"), (_, place) => place);
  if (order === "index") return places;
  const values = column(units, order === "mean" ? "mean" : "zero_fraction");
  const rank = (place: number): number => {
    const value = values[place] ?? Number.NaN;
    return Number.isNaN(value) ? Number.NEGATIVE_INFINITY : value;
  };
  return places.sort((a, b) => (rank(a) === rank(b) ? a - b : rank(b) > rank(a) ? 1 : -1));
}

function makeGrid(units: Units, order: UnitOrder, other: Units | null): TimeGrid {
  const { shown, figure: kind, window } = units.header;
  const [steps, values, names] = ["step", "values", "unit"].map((name) => column(units, name)) as [
    ArrayLike<number>,
    ArrayLike<number>,
    ArrayLike<number>,
  ];
  const places = orderUnits(units, order);
  const place = (row: number): number => places[row] ?? 0;
  const value = (at: number, row: number): number => values[at * shown + place(row)] ?? Number.NaN;
  const all = [values, other === null ? [] : column(other, "values")].flatMap((some) => extent(some) ?? []);
  const [least, greatest] = extent(all) ?? [0, 1];
  const far = Math.max(-least, greatest);
  const signed = kind === "mean" && least < 0;
  return {
    steps,
    rows: places.length,
    rowLabel: (row) => count(names[place(row)]),
    value,
    bad: () => false,
    describe: (at, row) => {
      const number = value(at, row);
      const of = (name: string): number => column(units, name)[place(row)] ?? Number.NaN;
      const here = kind === "mean" ? `mean ${exact(number)}` : `${FIGURES[kind]} ${exactPercent(number)}`;
      return [
        `unit ${count(names[place(row)])} · ${window > 1 ? `${count(window)} summaries from batch` : "batch"} ${count(steps[at])}`,
        Number.isNaN(number) ? "not recorded" : here,
        `in the range: mean ${exact(of("mean"))}, zeros ${exactPercent(of("zero_fraction"))}`,
        `dead in ${many(of("dead_batches"), "batch", "batches")}${of("saturated_batches") > 0 ? `, saturated in ${count(of("saturated_batches"))}` : ""}`,
      ].join("\n");
    },
    low: kind !== "mean" ? 0 : signed ? -far : 0,
    high: kind !== "mean" ? 1 : far || 1,
    log: false,
    signed,
    format: kind === "mean" ? figure : percent,
    yLabel: "unit",
    left: 76,
    legend:
      kind === "mean" ? "mean activation" : kind === "zero_fraction" ? "share of zeros" : "share saturated",
  };
}

const grids = new Map(
  UNIT_ORDERS.map((order) => [
    order,
    pairwise((units: Units, other: Units | null) => makeGrid(units, order, other)),
  ]),
);
/** The same object for the same answers and order; with `other` the colours reach over its values, too. */
export const unitGrid = (units: Units, order: UnitOrder, other: Units | null = null): TimeGrid =>
  grids.get(order)?.(units, other) ?? makeGrid(units, order, other);

/** The units of the layer in run B, where it tells them apart. */
function unitsOfB({ other, versus }: Store): Units | null {
  return other !== null && versus.layerRow?.units != null ? versus.units.value : null;
}

/** How many units were dead and saturated at once. */
export function deadLines(store: Store): TemplateResult | typeof nothing {
  const { value: units } = store.units;
  if (units === null) return nothing;
  const { figures, window, layer } = units.header;
  if (!figures.includes("zero_fraction")) return nothing;
  const saturated = figures.includes("saturated_fraction");
  const b = unitsOfB(store);
  const names = ["dead", ...(saturated ? ["saturated"] : [])];
  if (b !== null) {
    return html`${names.map((name) =>
      comparedLines(
        store,
        {
          hook: `compared-${name}`,
          heading: `${name.charAt(0).toUpperCase()}${name.slice(1)} units`,
          label: `Line chart: how many units of ${layer} are ${name} in both runs.`,
          yLabel: "units",
          zero: true,
        },
        { step: column(units, "step"), values: column(units, `${name}_units`) },
        { step: column(b, "step"), values: column(b, `${name}_units`) },
      ),
    )}`;
  }
  return html`<bv-lines
    data-testid="layer-dead"
    group="layer"
    heading=${saturated ? "Dead and saturated units" : "Dead units"}
    hint=${`of ${count(units.header.units)}; dead: all its values in a batch are 0${window > 1 ? ` · means of ${count(window)} batches` : ""}`}
    label=${`Line chart: how many units of ${layer} are dead${saturated ? " or saturated" : ""} over the batches.`}
    yLabel="units"
    .steps=${column(units, "step")}
    .lines=${[
      { label: "dead", values: column(units, "dead_units"), colour: "--accent", width: 1.5 },
      ...(saturated
        ? [{ label: "saturated", values: column(units, "saturated_units"), colour: "--quiet", width: 1.5 }]
        : []),
    ]}
    .values=${figure}
    .marker=${store.selection.batch}
    .onStep=${(step: number) => store.select({ batch: step })}
    .onRange=${store.brush}
    ?dark=${store.dark}
    zero
    height="100"
  ></bv-lines>`;
}

function listed(words: string, { total, units }: UnitList, of: number | null): TemplateResult {
  const share =
    of === null || of === 0 ? "" : html` of ${count(of)}, ${number(total / of, percent(total / of))}`;
  return html`<p class="unitlist"><b>${count(total)} ${words}</b><span class="quiet">${share}</span>${
    total === 0 ? nothing : html`: ${units.map(count).join(" · ")}`
  }${units.length < total ? html` <span class="quiet">and ${count(total - units.length)} more</span>` : nothing}</p>`;
}

function deadList(store: Store, units: Units): TemplateResult | typeof nothing {
  const { value: answer, error, loading } = store.deadUnits;
  if (!units.header.figures.includes("zero_fraction"))
    return html`<p class="quiet">Shares of zeros by unit are not in these files: which units are dead is not known.</p>`;
  const change = (event: Event): void => {
    const last = Number.parseInt((event.target as HTMLInputElement).value, 10);
    if (last >= 1) store.select({ last });
  };
  const input = html`<input type="number" class="steps" min="1" step="1" data-testid="dead-last" aria-label="how many of the last summarised batches"
    .value=${live(String(store.selection.last))} @change=${change}>`;
  const saturated = units.header.figures.includes("saturated_fraction");
  const b = unitsOfB(store) === null ? null : store.versus.deadUnits.value;
  const list = (found: DeadUnitsAnswer, which: "A" | "B"): TemplateResult => html`
    <div data-testid=${which === "A" ? "dead-list" : "dead-list-b"}>${b === null ? nothing : side(which)}${listed("dead", found.dead, found.units)}${saturated ? listed("saturated", found.saturated, found.units) : nothing}</div>`;
  return html`<div class="head"><h2>${saturated ? "Dead and saturated units" : "Dead units"}</h2>
      <span class="quiet small">in every one of the last ${input} summarised batches${
        answer === null || answer.batches === store.selection.last
          ? ""
          : `; there are ${count(answer.batches)}`
      }${answer === null ? "" : `, ${count(answer.first_step)} to ${count(answer.last_step)}`}</span>
      <span class="end small">${answer === null ? nothing : csvButton(store, "dead-units", () => deadSheet(answer))}</span></div>
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    ${answer === null ? waiting(null, loading, "") : list(answer, "A")}${b === null ? nothing : list(b, "B")}`;
}

export function unitsPanel(store: Store): TemplateResult {
  const { value: units, error, loading } = store.units;
  if (units === null) return html`<section class="panel">${waiting(error, loading, "")}</section>`;
  const { header } = units;
  const { unitFigure, unitOrder, batch } = store.selection;
  const part =
    header.shown < header.units
      ? `${count(header.shown)} of ${count(header.units)}: those most often dead or saturated, and an even draw`
      : many(header.units, "unit");
  const recorded = header.figures.includes(header.figure);
  const orders = UNIT_ORDERS.filter((order) => order !== "zeros" || header.figures.includes("zero_fraction"));
  const b = unitsOfB(store);
  const heatmap = (one: Units, other: Units | null, hook: string): TemplateResult => {
    const grid = unitGrid(one, unitOrder, other);
    const mine = hook === "";
    return html`<bv-time-heatmap
      data-testid=${`unit-heatmap${hook}`}
      heading=${`Units over the batches${mine ? "" : ", run B"}`}
      label=${`Heatmap: ${grid.legend} of ${mine ? part : "units"} of ${header.layer} over the batches${mine ? "" : " of run B"}, ordered by ${ORDERS[unitOrder]}. Arrow keys move${mine ? ", Enter chooses the batch" : ""}.`}
      .grid=${grid}
      .marker=${mine ? batch : null}
      .onRange=${mine ? store.brush : null}
      .onCell=${mine ? (step: number) => store.select({ batch: step }) : null}
      ?dark=${store.dark}
    ></bv-time-heatmap>`;
  };
  return html`<section class="panel" aria-label="Units over the batches" data-testid="units">
      <div class="head"><h2>Units over the batches</h2><span class="quiet small">${part} · a click chooses the batch, a drag the range</span>
        <span class="end small">${csvButton(store, "units", () => unitSheet(units))}</span></div>
      <div class="chips">
        <span class="chips" role="group" aria-label="Colour shows">${(Object.keys(FIGURES) as UnitFigure[])
          .filter((kind) => header.figures.includes(kind) || kind === unitFigure)
          .map((kind) =>
            chip(
              FIGURES[kind],
              unitFigure === kind,
              () => store.select({ unitFigure: kind }),
              `unit-${kind}`,
            ),
          )}</span>
        <select aria-label="Order of the units" data-testid="unit-order"
          @change=${(event: Event) => store.select({ unitOrder: (event.target as HTMLSelectElement).value as UnitOrder })}>
          ${orders.map((order) => html`<option value=${order} .selected=${live(unitOrder === order)}>order: ${ORDERS[order]}</option>`)}
        </select>
      </div>
      ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
      ${
        recorded
          ? html`${b === null ? nothing : html`<p class="small">${side("A")}</p>`}${heatmap(units, b, "")}`
          : html`<p class="state">Of this layer that is not recorded.</p>`
      }
      ${
        b?.header.figures.includes(b.header.figure)
          ? html`<p class="small">${side("B")} <span class="quiet">${many(b.header.shown, "unit")}, the same scale</span></p>${heatmap(b, units, "-b")}`
          : nothing
      }
    </section>
    <section class="panel" aria-label="Dead units">${deadList(store, units)}</section>`;
}
