// The sheet of keys, and what each key does.

import { html, type TemplateResult } from "lit";
import { hasFilter, NO_FILTER } from "../sample_filter.js";
import { TABS } from "../selection.js";
import type { Store } from "../state.js";

const KEYS: readonly (readonly [string[], string])[] = [
  [["←", "→"], "the batch before, the batch after"],
  [["↑", "↓"], "row up, row down in the table"],
  [["p", "n"], "the spike before, the spike after: batches whose loss stands out"],
  [["PgUp", "PgDn", "Home", "End"], "in a table: a page of rows, the first row, the last"],
  [["Enter"], "in a table: open the row"],
  [["z"], "the timeline of the range alone, and back"],
  [["l"], "follow the training, or stop"],
  [["1", "2", "3", "4"], "Batches, Classes, Samples, Layers"],
  [["/"], "search a class, in Samples an id"],
  [["Enter"], "in a picture, where the arrows move: choose what is there"],
  [["+", "−", "0"], "in the matrix: larger, smaller, all of it"],
  [["?"], "this sheet"],
  [["Esc"], "close the sample, take filters off, then the range"],
];

export function keysView(store: Store): TemplateResult {
  return html`<dialog aria-labelledby="keys-title" data-testid="keys-sheet" @close=${() => store.set({ help: false })}>
    <h2 id="keys-title">Keys</h2>
    <dl>${KEYS.map(([keys, what]) => html`<dt>${keys.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`)}</dl>
    <button type="button" class="button" @click=${() => store.set({ help: false })}>Close</button>
  </dialog>`;
}

/** Take off, one by one, what narrows the view. */
function widen(store: Store): void {
  const { sample, target, predicted, outcome, joint, start, stop } = store.selection;
  if (sample !== null) store.select({ sample: null });
  else if (target !== null || predicted !== null) store.select({ target: null, predicted: null });
  else if (store.selection.tab === "samples" && hasFilter(store.selection)) store.select(NO_FILTER);
  else if (store.selection.tab === "samples" && store.versus.joins && joint !== "all")
    store.select({ joint: "all" });
  else if (outcome !== "all") store.select({ outcome: "all" });
  else if (start !== null || stop !== null) store.select({ start: null, stop: null });
  else store.select({ batch: null });
}

/** Do what a key means; tells whether it meant something. `moveRow` moves in the tab's main table. */
export function pressKey(
  store: Store,
  key: string,
  moveRow: (by: number) => void,
  search: () => void,
): boolean {
  const tab = TABS[Number(key) - 1];
  if (tab !== undefined && /^[1-4]$/.test(key)) store.select({ tab });
  else if (key === "ArrowLeft" || key === "ArrowRight") store.stepBatch(key === "ArrowLeft" ? -1 : 1);
  else if (key === "ArrowUp" || key === "ArrowDown") moveRow(key === "ArrowUp" ? -1 : 1);
  else if (key === "n" || key === "p") store.stepSpike(key === "p" ? -1 : 1);
  else if (key === "z") store.select({ zoom: !store.selection.zoom });
  else if (key === "l") store.setLive(!store.live);
  else if (key === "/") search();
  else if (key === "?") store.set({ help: true });
  else if (key === "Escape") widen(store);
  else return false;
  return true;
}
