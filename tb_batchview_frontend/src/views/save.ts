// Small tables and pictures as files: each has a button of its own beside its heading.

import { html, type TemplateResult } from "lit";
import * as api from "../api.js";
import { CanvasElement } from "../charts/canvas.js";
import { copyPng } from "../charts/png.js";
import { allRows, type Cell, csvText, saveFile } from "../csv.js";
import { many, shortName } from "../format.js";
import type { Store } from "../state.js";
import type { BatchAnswer, Spike } from "../types.js";
import { sampleSheet } from "./download.js";

interface Sheet {
  head: string[];
  rows: Cell[][];
}

const fileName = ({ chosen }: Store, what: string): string =>
  `${chosen?.run.name}-${chosen?.phase?.name}-${what}`;

export function spikeSheet(spikes: readonly Spike[], names: readonly string[] | null): Sheet {
  const named = (index: number | undefined): Cell =>
    index === undefined ? null : (names?.[index] ?? String(index));
  return {
    head: ["step", "epoch", "loss", "ratio", "error_rate", "worst_target", "worst_predicted", "worst_count"],
    rows: spikes.map(({ step, epoch, loss, ratio, error_rate, worst }) => [
      step,
      epoch,
      loss,
      ratio,
      error_rate,
      named(worst?.target),
      named(worst?.predicted),
      worst?.count,
    ]),
  };
}

const FIGURES = ["mean", "std", "zero_fraction"] as const;

export function batchLayerSheet(layers: BatchAnswer["layers"]): Sheet {
  return {
    head: ["layer", ...FIGURES, ...FIGURES.map((name) => `${name}_before`)],
    rows: layers.map(({ layer, before, ...now }) => [
      layer,
      ...FIGURES.map((name) => now[name]),
      ...FIGURES.map((name) => before?.[name]),
    ]),
  };
}

/** All samples of the chosen batch that the filters leave, in the order of the table. */
export async function batchSampleSheet(store: Store, step: number): Promise<Sheet> {
  const page = (offset: number, limit: number): Promise<BatchAnswer> =>
    api.fetchBatch({ ...store.batchQuery(step), offset, limit }, new AbortController().signal);
  return sampleSheet(await allRows(page, (answer) => answer.samples), store.classNames);
}

/** A button that saves one table; `what` is its part of the file's name. */
export function csvButton(store: Store, what: string, sheetOf: () => Sheet | Promise<Sheet>): TemplateResult {
  const save = async (): Promise<void> => {
    try {
      const { head, rows } = await sheetOf();
      saveFile(fileName(store, `${what}.csv`), csvText(head, rows));
      store.set({ notice: `${many(rows.length, "row")} saved` });
    } catch (error) {
      store.set({ notice: error instanceof Error ? error.message : String(error) });
    }
  };
  return html`<button type="button" class="link small" data-testid=${`csv-${what}`} aria-label=${`CSV of ${what.replaceAll("-", " ")}`}
    @click=${save}>CSV</button>`;
}

/** Save a picture as it is seen, under its heading and the sentence that says what it is of. */
export async function savePicture(
  store: Store,
  picture: HTMLElement | null,
  what = picture?.dataset.testid ?? "picture",
  title?: string,
): Promise<void> {
  const heading =
    title ?? picture?.closest("bv-lines, .panel")?.querySelector("h2")?.textContent?.trim() ?? "";
  const sentence = document.querySelector('[data-testid="sentence"]')?.textContent?.trim() ?? "";
  // A name may be of any length; a caption is not.
  const words = [heading, `${store.chosen?.run.name} · ${sentence}`].map((text) => shortName(text, 300));
  const png = await (picture instanceof CanvasElement
    ? picture.toPng(words)
    : picture && copyPng(picture, words));
  if (png) saveFile(fileName(store, `${what}.png`), png);
  store.set({ notice: png ? "picture saved" : "the browser could not make the picture" });
}
