// The column that says on what a batch went wrong.

import { className, count } from "../format.js";
import type { Confusion, Output } from "../types.js";
import type { TableColumn } from "./table.js";

/** The most frequent confusion of a batch; no column for a task that has none. */
export function worstColumns<Row extends { worst: Confusion | null }>(
  output: Output | null,
  names: readonly string[] | null,
  { label, width }: { label: string; width: number },
): TableColumn<Row>[] {
  if (output?.task !== "multiclass" && output?.task !== "binary") return [];
  const cell = ({ worst: pair }: Row): string =>
    pair === null
      ? "–"
      : `${className(names, pair.target)} → ${className(names, pair.predicted)} (${count(pair.count)})`;
  const title = "the most frequent confusion of the batch: target → predicted (samples)";
  return [{ key: "worst", label, title, width, cell, hint: cell }];
}
