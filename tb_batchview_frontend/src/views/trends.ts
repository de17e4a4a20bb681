// Each class over the range: the sparkline in the table's row, and the heatmap of classes × time.

import { html, nothing, type TemplateResult } from "lit";
import { sparkline } from "../charts/sparkline.js";
import "../charts/trend.js";
import { className, count, many, percent, percentTick, shortName } from "../format.js";
import type { Store } from "../state.js";
import { cellOf, greatestRate, missedRate, ordered, recalls, type Trend } from "../trend.js";
import type { Block, ClassRow, TrendHeader } from "../types.js";
import { pairwise, side } from "./compare_parts.js";
import { comparedLines, type Series } from "./compared_lines.js";
import { named, type Sheet } from "./download.js";
import { waiting } from "./parts.js";
import { foldable, picture } from "./picture.js";
import { classMatches } from "./sidebar.js";
import type { TableColumn } from "./table.js";

/** The same object for the same answer. */
interface Followed extends Trend {
  /** Where each class number stands. */
  columns: Map<number, number>;
  samples: number;
}
const trends = new WeakMap<Block<TrendHeader>, Followed>();
export function trendOf(answer: Block<TrendHeader>): Followed {
  const known = trends.get(answer);
  if (known !== undefined) return known;
  const column = (name: string): ArrayLike<number> => answer.arrays[name]?.values ?? [];
  const labels = column("labels");
  const made = {
    steps: column("step"),
    lasts: column("last_step"),
    labels,
    support: column("support"),
    predicted: column("predicted"),
    hits: column("hits"),
    samples: Array.from(column("support")).reduce((sum, value) => sum + value, 0),
    columns: new Map(Array.from(labels, (label, index) => [label, index])),
  };
  trends.set(answer, made);
  return made;
}

/** What a sparkline shows, in words: its ends and its extremes. */
export function sparkWords(trend: Trend, values: readonly (number | null)[]): string {
  const present = values.flatMap((value, window) => (value === null ? [] : [{ value, window }]));
  const [first, last] = [present[0], present[present.length - 1]];
  if (first === undefined || last === undefined) return "no samples of it in the range";
  const sorted = present.map(({ value }) => value).sort((a, b) => a - b);
  const at = ({ value, window }: { value: number; window: number }): string =>
    `${percent(value)} in batches ${count(trend.steps[window])}–${count(trend.lasts[window])}`;
  return `recall ${at(first)}; ${at(last)}; least ${percent(sorted[0])}, greatest ${percent(sorted[sorted.length - 1])}`;
}

/** The column of sparklines of the table of classes. */
export function sparkColumn(store: Store): TableColumn<ClassRow> {
  const answer = store.trend.value;
  const trend = answer === null ? null : trendOf(answer);
  const valuesOf = (row: ClassRow): (number | null)[] | null => {
    const column = trend?.columns.get(row.class);
    return trend === null || column === undefined ? null : recalls(trend, column);
  };
  const words = (row: ClassRow): string => {
    const values = valuesOf(row);
    if (trend === null || values === null)
      return answer === null
        ? "being counted"
        : "not among the classes with most errors, which alone are followed";
    return sparkWords(trend, values);
  };
  return {
    key: "trend",
    label: "Trend",
    title: "recall in windows of the range, from 0 at the bottom to 100 % at the top",
    width: 68,
    cell: (row) => {
      const values = valuesOf(row);
      return values === null ? "–" : sparkline(values, words(row));
    },
    hint: words,
  };
}

const madeOrder = pairwise((a: Followed, b: Followed | null, more: string): number[] => {
  const { sort, words, names, matched } = JSON.parse(more);
  return ordered(a, sort, classMatches(names, words) ?? (() => true), b && { trend: b, matched });
});

/** A's columns in the order of the table, by what changed against B where that is the order. */
function orderOf(store: Store, trend: Followed, other: Followed | null): number[] {
  const words = store.chosen?.output?.task === "multilabel" ? "" : store.search.trim();
  const sort = store.classSort;
  const matched = sort.column.endsWith("_change") ? Array.from(store.versus.matched) : [];
  const names = words === "" ? null : store.classNames;
  return madeOrder(trend, other, JSON.stringify({ sort, words, names, matched }));
}

export function trendSheet(trend: Trend, order: readonly number[], names: readonly string[] | null): Sheet {
  return {
    head: ["class", "name", "first_step", "last_step", "support", "predicted", "hits", "not_found"],
    rows: order.flatMap((column) =>
      Array.from(trend.steps, (step, window) => {
        const { support, predicted, hits } = cellOf(trend, window, column);
        const label = trend.labels[column] ?? 0;
        const rate = missedRate(trend, window, column);
        return [label, named(names, label), step, trend.lasts[window], support, predicted, hits, rate];
      }),
    ),
  };
}

/** Columns of B's trend in the order of A's rows, without the classes that B has not. */
const sameRows = pairwise((a: Followed, b: Followed | null, more: string): number[] => {
  const [order, matched] = JSON.parse(more) as [number[], number[]];
  return order.flatMap((column) => b?.columns.get(matched[a.labels[column] ?? 0] ?? -1) ?? []);
});

/** B's rows under those of A, and one class of both on one axis: since when they differ. */
function comparedTrend(
  store: Store,
  a: Followed,
  b: Followed,
  order: readonly number[],
  what: string,
  most: number | null,
): TemplateResult {
  const { matched, classNames } = store.versus;
  const rows = sameRows(a, b, JSON.stringify([order, Array.from(matched)]));
  // The chosen class, else that of the first row.
  const label = store.selection.target ?? a.labels[order[0] ?? 0] ?? 0;
  const columns = [a.columns.get(label), b.columns.get(matched[label] ?? -1)] as const;
  const name = className(store.classNames, label);
  const missed = (trend: Followed, column: number | undefined): Series => ({
    step: trend.steps,
    values: Array.from(trend.steps, (_, window) =>
      column === undefined ? Number.NaN : (missedRate(trend, window, column) ?? Number.NaN),
    ),
  });
  const left = order.length - rows.length;
  const head = {
    name: "trend-b",
    file: `trend-of-${store.other?.run.name}`,
    title: "Run B",
    note: html`${side("B")} the same rows and the same scale${left === 0 ? "" : `; ${count(left)} of them not in B`}`,
    png: true,
    sheet: () => trendSheet(b, rows, classNames),
  };
  return html`${picture(
    store,
    head,
    html`<bv-trend
      data-testid="trend-heatmap-b"
      heading=${`${what} over time, run B`}
      label=${`Heatmap: share not found of ${count(rows.length)} rows over ${many(b.steps.length, "window")} of run B.`}
      subject=${what}
      .trend=${b}
      .order=${rows}
      .names=${classNames}
      .target=${store.selection.target === null || columns[1] === undefined ? null : b.labels[columns[1]]}
      .greatest=${most}
      blue
      ?dark=${store.dark}
    ></bv-trend>`,
  )}
    ${comparedLines(
      store,
      {
        hook: "trend-lines",
        heading: `${shortName(name, 40)}: share not found, A and B`,
        label: `Line chart: share of ${name} not found by both runs over the batches.`,
        yLabel: "not found",
        values: percent,
        ticks: percentTick,
        zero: true,
      },
      missed(a, columns[0]),
      missed(b, columns[1]),
    )}`;
}

/** Which class fails when: a heatmap whose rows are in the order of the table. */
export function trendPanel(store: Store, what: "class" | "label"): TemplateResult {
  const { value: answer, loading } = store.trend;
  const trend = answer === null ? null : trendOf(answer);
  const beside = store.versus.beside("trend");
  const error = store.trend.error ?? beside?.error ?? null;
  const other = beside?.value ? trendOf(beside.value) : null;
  const order = trend === null ? [] : orderOf(store, trend, other);
  const most = trend && other ? Math.max(greatestRate(trend), greatestRate(other)) : null;
  const shown = answer === null || answer.header.shown === answer.header.classes;
  const header = answer?.header;
  const each = header === undefined ? "" : many(header.window, "batch", "batches");
  const part = shown ? "" : ` · the ${count(header?.shown)} with most errors of ${count(header?.classes)}`;
  const plural = what === "class" ? "classes" : "labels";
  const click =
    what === "class"
      ? "a click chooses class and range, a drag the range"
      : "a click or a drag chooses the range";
  const pick = (label: number, start: number, stop: number): void =>
    store.select(
      what === "class" ? { target: label, predicted: null, sample: null, start, stop } : { start, stop },
    );
  const worst = (): string => {
    if (trend === null || order[0] === undefined) return "";
    return ` First row: ${className(store.classNames, trend.labels[order[0]])}, ${sparkWords(trend, recalls(trend, order[0]))}.`;
  };
  return foldable(
    store,
    {
      name: "trend",
      title: what === "class" ? "Error rate of each class over time" : "Missed labels over time",
      note: `share of its samples not found · a column is ${each} · rows as in the table${part} · ${click}`,
      png: true,
      sheet: () => trendSheet(trend as Trend, order, store.classNames),
    },
    () =>
      trend === null || order.length === 0 || trend.samples === 0
        ? waiting(
            error,
            loading,
            order.length === 0 && trend !== null
              ? `No such ${what}.`
              : "No samples with a target in this range.",
          )
        : html`${error === null ? "" : html`<p class="bad" role="alert">${error}</p>`}
        ${other === null ? "" : html`<p class="small">${side("A")}</p>`}
        <bv-trend
          data-testid="trend-heatmap"
          heading=${`${plural} over time`}
          label=${`Heatmap: share not found of ${many(order.length, what, plural)} over ${many(trend.steps.length, "window")} of ${each}.${worst()} Arrow keys, Home, End, Page up and Page down move; Enter chooses.`}
          subject=${what}
          .trend=${trend}
          .order=${order}
          .names=${store.classNames}
          .target=${store.selection.target}
          .greatest=${most}
          .onPick=${pick}
          .onRange=${store.brush}
          ?dark=${store.dark}
        ></bv-trend>
        ${other === null ? nothing : comparedTrend(store, trend, other, order, what, most)}`,
    trend !== null && trend.samples > 0,
  );
}
