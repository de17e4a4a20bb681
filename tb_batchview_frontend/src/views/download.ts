// The CSV of the current tab's table: every row of the view, not only those in sight.

import * as api from "../api.js";
import type { MatrixModel } from "../charts/matrix_model.js";
import { difference } from "../compare.js";
import { allRows, type Cell, csvText, MOST_CSV_ROWS, saveFile } from "../csv.js";
import { count, many } from "../format.js";
import type { Pair } from "../pairs.js";
import { FIGURES, filterQuery } from "../sample_filter.js";
import type { Cells, Sort } from "../selection.js";
import type { Store } from "../state.js";
import type { BatchRow, ClassRow, JoinedSample, LayerRow, Sample, SampleAnswer } from "../types.js";
import { showsJoined } from "./compare_samples.js";

type Names = readonly string[] | null;
export interface Sheet {
  head: string[];
  rows: Cell[][];
}

export const named = (names: Names, index: number | null): Cell =>
  index === null ? null : (names?.[index] ?? String(index));

const AGAINST_FIGURES = ["loss", "error_rate", "confidence"] as const;

/** Columns of run B, where one is compared with: what it has and how much more A has. */
export function batchSheet(
  rows: readonly BatchRow[],
  metrics: readonly string[],
  names: Names,
  compared = false,
): Sheet {
  const against = compared ? AGAINST_FIGURES : [];
  return {
    head: [
      "step",
      "epoch",
      "index",
      "size",
      "wall_time",
      "loss",
      ...metrics,
      "error_rate",
      "confidence",
      "worst_target",
      "worst_predicted",
      "worst_count",
      ...against.flatMap((name) => [`${name}_against`, `${name}_change`]),
    ],
    rows: rows.map((row) => [
      row.step,
      row.epoch,
      row.index,
      row.size,
      row.wall_time,
      row.loss,
      ...metrics.map((name) => row.metrics[name]),
      row.error_rate,
      row.confidence,
      named(names, row.worst?.target ?? null),
      named(names, row.worst?.predicted ?? null),
      row.worst?.count,
      ...against.flatMap((name) => [row.against?.[name], difference(row[name], row.against?.[name])]),
    ]),
  };
}

const CLASS_FIGURES = (["precision", "recall", "f1"] as const).flatMap(
  (name) => [name, `${name}_low`, `${name}_high`] as const,
);

const CLASS_CHANGED = ["support", "precision", "recall", "f1"] as const;

export function classSheet(rows: readonly ClassRow[], names: Names, compared = false): Sheet {
  const against = compared ? CLASS_CHANGED : [];
  const apart = (row: ClassRow, name: string): Cell =>
    row.apart && name in row.apart ? Number(row.apart[name as keyof typeof row.apart]) : null;
  return {
    head: [
      "class",
      "name",
      "support",
      "predicted",
      ...CLASS_FIGURES,
      "most_confused",
      "most_confused_count",
      ...against
        .flatMap((name) => [`${name}_against`, `${name}_change`, `${name}_apart`])
        .filter((name) => name !== "support_apart"),
    ],
    rows: rows.map((row) => [
      row.class,
      named(names, row.class),
      row.support,
      row.predicted,
      ...CLASS_FIGURES.map((name) => row[name]),
      named(names, row.most_confused?.class ?? null),
      row.most_confused?.count,
      ...against.flatMap((name) => [
        row.against?.[name],
        row.change?.[name],
        ...(name === "support" ? [] : [apart(row, name)]),
      ]),
    ]),
  };
}

export function sampleSheet(rows: readonly Sample[], names: Names): Sheet {
  const followed = rows.some(({ dynamics }) => dynamics);
  return {
    head: [
      ...["step", "sample", "id", "target", "predicted", "confidence", "target_score", "loss", "error"],
      ...(followed ? FIGURES : []),
    ],
    rows: rows.map((row) => [
      row.step,
      row.sample,
      row.id,
      named(names, row.target),
      named(names, row.predicted),
      row.confidence,
      row.target_score,
      row.loss,
      row.error,
      ...(followed ? FIGURES.map((name) => row.dynamics?.[name]) : []),
    ]),
  };
}

/** Samples of a regression with all the values that came with them. */
export function worstSheet(rows: readonly Sample[]): Sheet {
  const most = rows.reduce((greatest, { values }) => Math.max(greatest, values?.length ?? 0), 0);
  const places = Array.from({ length: most }, (_, value) => value);
  return {
    head: [
      ...["step", "sample", "id", "error", "loss"],
      ...places.flatMap((value) => [`target_${value}`, `predicted_${value}`]),
    ],
    rows: rows.map(({ step, sample, id, error, loss, values }) => [
      ...[step, sample, id, error, loss],
      ...places.flatMap((value) => [values?.[value]?.target, values?.[value]?.predicted]),
    ]),
  };
}

/** A sample a row, with what both runs made of it. */
export function joinedSheet(rows: readonly JoinedSample[], names: Names, others: Names): Sheet {
  const [a, b] = [rows, rows.map(({ against }) => against)].map((part, index) =>
    sampleSheet(part, index === 0 ? names : others),
  ) as [Sheet, Sheet];
  return {
    head: ["joint", ...a.head, ...b.head.map((name) => `${name}_against`)],
    rows: rows.map(({ joint }, index) => [joint, ...(a.rows[index] ?? []), ...(b.rows[index] ?? [])]),
  };
}

export function layerSheet(rows: readonly LayerRow[]): Sheet {
  return {
    head: ["layer", "units", "summaries", "last_step", "mean", "std", "min", "max", "zero_fraction"],
    rows: rows.map((row) => [
      row.name,
      row.units,
      row.batches,
      row.last_step,
      row.mean,
      row.std,
      row.min,
      row.max,
      row.zero_fraction,
    ]),
  };
}

/** The question for a part of the range in some order. */
const rangeOf = ({ chosen, selection: { start, stop } }: Store, { column, descending }: Sort): api.Query => ({
  run: chosen?.run.name,
  phase: chosen?.phase?.name,
  output: chosen?.output?.name ?? null,
  start,
  stop,
  sort: column,
  descending: descending ? 1 : 0,
});

/** All samples of the range that the filters leave, in the order of the table. */
export async function chosenSamples(
  store: Store,
  signal: AbortSignal,
  filters: api.Query = {},
): Promise<Sheet> {
  const { outcome, target, predicted } = store.selection;
  const query = { ...rangeOf(store, store.sampleSort), outcome, target, predicted, ...filters };
  const page = (offset: number, limit: number) => api.fetchSamples({ ...query, offset, limit }, signal);
  return sampleSheet(await allRows(page, (answer) => answer.samples), store.classNames);
}

/** All scores of one sample; of a regression its values beside those wanted. */
export const scoreSheet = ({ scores, target_values: wanted }: SampleAnswer, names: Names): Sheet => ({
  head: ["class", "name", "score", ...(wanted ? ["target"] : [])],
  rows: scores.map((entry, index) => [
    entry.class,
    named(names, entry.class),
    entry.score,
    ...(wanted ? [wanted[index]] : []),
  ]),
});

async function sheetOf(store: Store, signal: AbortSignal): Promise<Sheet | null> {
  const { chosen, classNames: names } = store;
  const { tab } = store.selection;
  if (chosen?.phase == null) return null;
  if (tab === "batches") {
    const page = (offset: number, limit: number) =>
      api.fetchBatches(
        { ...rangeOf(store, store.batchSort), ...store.versus.ofBatches, offset, limit },
        signal,
      );
    return batchSheet(
      await allRows(page, (answer) => answer.rows),
      store.batches.head?.metrics ?? [],
      names,
      "against_run" in store.versus.ofBatches,
    );
  }
  if (tab === "classes" && chosen.output?.task === "regression") {
    const query = rangeOf(store, { column: "error", descending: true });
    const page = (offset: number, limit: number) => api.fetchSamples({ ...query, offset, limit }, signal);
    return worstSheet(await allRows(page, (answer) => answer.samples));
  }
  if (tab === "classes") {
    const page = (offset: number, limit: number) =>
      api.fetchClasses({ ...store.classQuery(rangeOf(store, store.classSort)), offset, limit }, signal);
    const compared = store.versus.comparable;
    return classSheet(await allRows(page, (answer) => answer.classes), names, compared);
  }
  if (tab === "samples" && showsJoined(store)) {
    const page = (offset: number, limit: number) =>
      api.fetchJoined({ ...store.versus.ofSamples, offset, limit }, signal);
    return joinedSheet(await allRows(page, (answer) => answer.samples), names, store.versus.classNames);
  }
  if (tab === "samples") return chosenSamples(store, signal, filterQuery(store.selection));
  return layerSheet(store.layers.value?.layers ?? []);
}

const TOGETHER: Record<Cells, string> = {
  count: "samples",
  row: "share of row's errors",
  column: "share of column's errors",
};
const KINDS: Record<Cells, string> = { count: "samples", row: "share of row", column: "share of column" };

/** The matrix in the order shown, with full precision: a row a target, a column a predicted class. */
export function matrixSheet(model: MatrixModel): Sheet {
  const positions = Array.from({ length: model.classes }, (_, position) => position);
  const plain = positions.map((position) => String(named(model.options.names, model.label(position))));
  // Two classes of one name are told apart by their numbers.
  const names =
    new Set(plain).size === plain.length
      ? plain
      : plain.map((name, position) => `${model.label(position)}: ${name}`);
  return {
    head: [
      model.together
        ? `label wrong \\ and wrong with it (${TOGETHER[model.options.cells]})`
        : `target \\ predicted (${KINDS[model.options.cells]})`,
      ...names,
    ],
    rows: positions.map((row) => [
      names[row] ?? "",
      ...positions.map((column) => {
        const empty = !model.counted && model.samples(model.whole(row, column)) === 0;
        return empty ? null : model.value(row, column);
      }),
    ]),
  };
}

export function pairSheet(pairs: readonly Pair[], names: Names): Sheet {
  return {
    head: [
      "target",
      "target_name",
      "predicted",
      "predicted_name",
      "samples",
      "share_of_target",
      "samples_other_way",
    ],
    rows: pairs.map(({ target, predicted, count: samples, share, back }) => [
      target,
      named(names, target),
      predicted,
      named(names, predicted),
      samples,
      share,
      back,
    ]),
  };
}

export const fileName = ({ chosen }: Store, what: string): string =>
  `${chosen?.run.name}-${chosen?.phase?.name}-${what}`;

export function savePairs(store: Store, pairs: readonly Pair[]): void {
  const sheet = pairSheet(pairs, store.classNames);
  saveFile(fileName(store, "pairs.csv"), csvText(sheet.head, sheet.rows));
  store.set({ notice: `${many(pairs.length, "pair")} saved` });
}

export function saveSheet(store: Store, what: string, { head, rows }: Sheet): void {
  saveFile(fileName(store, `${what}.csv`), csvText(head, rows));
  store.set({ notice: `${many(rows.length, "row")} saved` });
}

/** Save the table of the tab; a line above says how it went. */
export async function saveView(store: Store): Promise<void> {
  store.set({ notice: "collecting rows…" });
  try {
    const sheet = await sheetOf(store, new AbortController().signal);
    if (sheet === null) return;
    const { chosen, selection } = store;
    saveFile(
      `${chosen?.run.name}-${chosen?.phase?.name}-${selection.tab}.csv`,
      csvText(sheet.head, sheet.rows),
    );
    const cut = sheet.rows.length >= MOST_CSV_ROWS ? "; for more use tb-batchview export" : "";
    store.set({ notice: `${count(sheet.rows.length)} rows saved${cut}` });
  } catch (error) {
    store.set({ notice: error instanceof Error ? error.message : String(error) });
  }
}
