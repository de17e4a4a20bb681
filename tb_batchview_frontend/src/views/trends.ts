// Each class over the range: the sparkline in the table's row, and the heatmap of classes × time.

import { html, type TemplateResult } from "lit";
import { sparkline } from "../charts/sparkline.js";
import "../charts/trend.js";
import { className, count, many, percent } from "../format.js";
import type { Store } from "../state.js";
import { cellOf, missedRate, ordered, recalls, type Trend } from "../trend.js";
import type { Block, ClassRow, TrendHeader } from "../types.js";
import { named, type Sheet } from "./download.js";
import { waiting } from "./parts.js";
import { foldable } from "./picture.js";
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

const orders = new WeakMap<Trend, { key: string; order: number[] }>();
function orderOf(store: Store, trend: Trend): number[] {
  const words = store.chosen?.output?.task === "multilabel" ? "" : store.search.trim();
  const key = JSON.stringify([store.classSort, words]);
  const known = orders.get(trend);
  if (known?.key === key) return known.order;
  const order = ordered(trend, store.classSort, classMatches(store.classNames, words) ?? (() => true));
  orders.set(trend, { key, order });
  return order;
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

/** Which class fails when: a heatmap whose rows are in the order of the table. */
export function trendPanel(store: Store, what: "class" | "label"): TemplateResult {
  const { value: answer, error, loading } = store.trend;
  const trend = answer === null ? null : trendOf(answer);
  const order = trend === null ? [] : orderOf(store, trend);
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
        <bv-trend
          data-testid="trend-heatmap"
          heading=${`${plural} over time`}
          label=${`Heatmap: share not found of ${many(order.length, what, plural)} over ${many(trend.steps.length, "window")} of ${each}.${worst()} Arrow keys, Home, End, Page up and Page down move; Enter chooses.`}
          subject=${what}
          .trend=${trend}
          .order=${order}
          .names=${store.classNames}
          .target=${store.selection.target}
          .onPick=${pick}
          .onRange=${store.brush}
          ?dark=${store.dark}
        ></bv-trend>`,
    trend !== null && trend.samples > 0,
  );
}
