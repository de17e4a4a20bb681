// The CSV of the current tab's table: every row of the view, not only those in sight.

import * as api from "../api.js";
import { allRows, type Cell, csvText, MOST_CSV_ROWS, saveFile } from "../csv.js";
import { count } from "../format.js";
import type { Store } from "../state.js";
import type { BatchRow, ClassRow, LayerRow, Sample } from "../types.js";

type Names = readonly string[] | null;
interface Sheet {
  head: string[];
  rows: Cell[][];
}

const named = (names: Names, index: number | null): Cell =>
  index === null ? null : (names?.[index] ?? String(index));

export function batchSheet(rows: readonly BatchRow[], metrics: readonly string[], names: Names): Sheet {
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
    ]),
  };
}

export function classSheet(rows: readonly ClassRow[], names: Names): Sheet {
  return {
    head: [
      "class",
      "name",
      "support",
      "predicted",
      "precision",
      "recall",
      "recall_low",
      "recall_high",
      "f1",
      "most_confused",
      "most_confused_count",
    ],
    rows: rows.map((row) => [
      row.class,
      named(names, row.class),
      row.support,
      row.predicted,
      row.precision,
      row.recall,
      row.recall_low,
      row.recall_high,
      row.f1,
      named(names, row.most_confused?.class ?? null),
      row.most_confused?.count,
    ]),
  };
}

export function sampleSheet(rows: readonly Sample[], names: Names): Sheet {
  return {
    head: ["step", "sample", "id", "target", "predicted", "confidence", "target_score", "loss", "error"],
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
    ]),
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

async function sheetOf(store: Store, signal: AbortSignal): Promise<Sheet | null> {
  const { chosen, classNames: names } = store;
  const { tab, start, stop, outcome, target, predicted } = store.selection;
  const { batchSort, classSort, sampleSort } = store;
  if (chosen?.phase == null) return null;
  const range = {
    run: chosen.run.name,
    phase: chosen.phase.name,
    output: chosen.output?.name ?? null,
    start,
    stop,
  };
  const sorted = ({ column, descending }: { column: string; descending: boolean }): api.Query => ({
    ...range,
    sort: column,
    descending: descending ? 1 : 0,
  });
  if (tab === "batches") {
    const page = (offset: number, limit: number) =>
      api.fetchBatches({ ...sorted(batchSort), offset, limit }, signal);
    return batchSheet(await allRows(page, (answer) => answer.rows), store.batches.head?.metrics ?? [], names);
  }
  if (tab === "classes") {
    const page = (offset: number, limit: number) =>
      api.fetchClasses({ ...sorted(classSort), offset, limit }, signal);
    return classSheet(await allRows(page, (answer) => answer.classes), names);
  }
  if (tab === "samples") {
    const query = { ...sorted(sampleSort), outcome, target, predicted };
    const page = (offset: number, limit: number) => api.fetchSamples({ ...query, offset, limit }, signal);
    return sampleSheet(await allRows(page, (answer) => answer.samples), names);
  }
  return layerSheet(store.layers.value?.layers ?? []);
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
