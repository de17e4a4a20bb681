// What every comparison is made of: the marks of A and B, a difference, and figures side by side.

import { html, nothing, type TemplateResult } from "lit";
import { type Better, difference, verdict } from "../compare.js";
import { exact } from "../format.js";
import type { Figure } from "../types.js";
import { number } from "./parts.js";
import type { TableColumn } from "./table.js";

/** The mark of a run: its letter, its colour and (B) a dashed frame. */
export const side = (which: "A" | "B"): TemplateResult =>
  html`<span class=${which === "A" ? "side" : "side b"}>${which}</span>`;

/** The same object for the same answers of A and B, so that a picture is laid out once and not at every render. */
export function pairwise<A extends object, B extends object, Made>(
  make: (a: A, b: B | null, more: string) => Made,
): (a: A, b?: B | null, more?: string) => Made {
  const known = new WeakMap<A, { b: B | null; more: string; made: Made }>();
  return (a, b = null, more = "") => {
    let kept = known.get(a);
    if (kept === undefined || kept.b !== b || kept.more !== more) {
      kept = { b, more, made: make(a, b, more) };
      known.set(a, kept);
    }
    return kept.made;
  };
}

const ARROWS = { up: "▲", down: "▼" } as const;

/** A difference with its direction as an arrow and a sign; the colour tells whether it is for the better. */
export function change(
  value: number | null,
  text: (value: number) => string,
  better: Better,
  apart = false,
): TemplateResult {
  if (value === null) return html`<span class="quiet">–</span>`;
  const kind = verdict(value, better);
  const tone = kind === "better" ? "good" : kind === "worse" ? "bad" : "";
  const [arrow, way] = value === 0 ? ["", ""] : value > 0 ? [ARROWS.up, "up"] : [ARROWS.down, "down"];
  const words = [exact(value), kind, apart ? "the 95 % intervals do not overlap" : ""];
  return html`<span class=${`change ${tone}`} title=${words.filter((part) => part !== "").join("; ")}><span aria-hidden="true">${arrow}</span><span class="hidden">${way}</span> ${text(
    Math.abs(value),
  )}${kind === "" ? nothing : html`<span class="hidden">, ${kind}</span>`}${
    apart ? html`<b title="the 95 % intervals do not overlap"> ≠</b>` : nothing
  }</span>`;
}

export interface ComparedFigure {
  label: string;
  a: Figure | undefined;
  b: Figure | undefined;
  text: (value: number | null | undefined) => string;
  better: Better;
  /** How a difference is written, where not as the figure. */
  changed?: (value: number) => string;
  apart?: boolean;
}

/** Figures of both runs, a column each: A above B above the difference. */
export function figuresTable(
  figures: readonly ComparedFigure[],
  hook: string,
  label: string,
): TemplateResult {
  const row = (
    head: TemplateResult | string,
    cell: (figure: ComparedFigure) => TemplateResult,
  ): TemplateResult =>
    html`<tr><th scope="row">${head}</th>${figures.map((figure) => html`<td>${cell(figure)}</td>`)}</tr>`;
  return html`<div class="wide" role="group" tabindex="0" aria-label=${label}><table class="compared" data-testid=${hook} aria-label=${label}>
    <thead><tr><td></td>${figures.map(({ label: name }) => html`<th scope="col">${name}</th>`)}</tr></thead>
    <tbody>
      ${row(side("A"), ({ a, text }) => number(a, text(a)))} ${row(side("B"), ({ b, text }) => number(b, text(b)))}
      ${row("A − B", ({ a, b, text, better, changed, apart }) => change(difference(a, b), changed ?? text, better, apart))}
    </tbody></table></div>`;
}

/** Put each difference beside what it is one of: `loss_change` after `loss`. */
export function withChanges<Row>(
  columns: readonly TableColumn<Row>[],
  changes: readonly TableColumn<Row>[],
): TableColumn<Row>[] {
  return columns.flatMap((column) => [
    column,
    ...changes.filter(({ key }) => key === `${column.key}_change`),
  ]);
}
