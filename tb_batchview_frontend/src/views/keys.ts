// The sheet of keys, and what each key does.

import { html, type TemplateResult } from "lit";
import { hasFilter, NO_FILTER } from "../sample_filter.js";
import { TABS } from "../selection.js";
import type { Store } from "../state.js";

type Keys = readonly (readonly [string[], string])[];
const KEYS: readonly (readonly [string, Keys])[] = [
  [
    "Everywhere",
    [
      [["←", "→"], "the batch before, the batch after"],
      [["↑", "↓"], "row up, row down in the table"],
      [["p", "n"], "the spike before, the spike after: batches whose loss stands out"],
      [["z"], "the timeline of the range alone, and back"],
      [["l"], "follow the training, or stop"],
      [["1", "2", "3", "4"], "Batches, Classes, Samples, Layers"],
      [["/"], "search a class, in Samples an id"],
      [["?"], "this sheet"],
      [["Esc"], "close the sample, take filters off, then the range"],
    ],
  ],
  [
    "In a table",
    [
      [["PgUp", "PgDn", "Home", "End"], "a page of rows, the first row, the last"],
      [["Enter"], "open the row"],
    ],
  ],
  [
    "In a picture, to which Tab leads",
    [
      [["←", "→", "↑", "↓"], "from one thing to the next; it is read out"],
      [["PgUp", "PgDn", "Home", "End"], "ten rows up or down, the first column, the last"],
      [["Ctrl", "Home"], "with Ctrl: to the outermost one"],
      [["Enter"], "choose what is there"],
      [["+", "−", "0"], "in a matrix: larger, smaller, all of it"],
    ],
  ],
  [
    "Among tabs, classes found and the class mix",
    [
      [["←", "→", "↑", "↓"], "from one to the next"],
      [["Enter"], "choose it; in the search the first class found"],
    ],
  ],
];

export function keysView(store: Store): TemplateResult {
  return html`<dialog class="broad" aria-labelledby="keys-title" data-testid="keys-sheet" @close=${() => store.set({ help: false })}>
    <h2 id="keys-title">Keys</h2>
    <div class="sheet" tabindex="0" role="group" aria-label="All keys">${KEYS.map(
      ([where, keys]) => html`<section><h3 class="quiet">${where}</h3>
      <dl>${keys.map(([names, what]) => html`<dt>${names.map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`)}</dl></section>`,
    )}</div>
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
