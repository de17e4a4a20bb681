// The current view as a CSV file: all its rows, in its order, with full precision.

import { PAGE } from "./resource.js";

export type Cell = string | number | null | undefined;

/** More rows than this belong to the `tb-batchview export` command. */
export const MOST_CSV_ROWS = 100_000;

/**
 * Quote where needed. Text that a spreadsheet would run as a formula gets an apostrophe: class names and ids
 * come from files that others wrote.
 */
export function csvCell(cell: Cell): string {
  if (cell === null || cell === undefined) return "";
  if (typeof cell === "number") return String(cell);
  const safe = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csvText(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [head, ...rows]
    .map((row) => row.map(csvCell).join(","))
    .join("\r\n")
    .concat("\r\n");
}

/** Fetch every page of a table, one after the other. */
export async function allRows<Answer extends { total: number }, Row>(
  fetchPage: (offset: number, limit: number) => Promise<Answer>,
  rowsOf: (answer: Answer) => Row[],
): Promise<Row[]> {
  const rows: Row[] = [];
  let total = 1;
  while (rows.length < Math.min(total, MOST_CSV_ROWS)) {
    const answer = await fetchPage(rows.length, PAGE);
    const page = rowsOf(answer);
    total = answer.total;
    if (page.length === 0) break;
    rows.push(...page);
  }
  return rows;
}

/** Save a CSV text, or a picture. */
export function saveFile(name: string, content: string | Blob): void {
  const file =
    typeof content === "string" ? new Blob([content], { type: "text/csv;charset=utf-8" }) : content;
  const url = URL.createObjectURL(file);
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
  URL.revokeObjectURL(url);
}
