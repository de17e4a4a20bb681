// The frame of a picture: a title that folds it up, a line of words, and the files to save it as.

import { html, nothing, type TemplateResult } from "lit";
import type { CanvasElement } from "../charts/canvas.js";
import type { Store } from "../state.js";
import { type Sheet, saveSheet } from "./download.js";
import { savePicture } from "./save.js";

export interface PictureHead {
  name: string;
  /** What the files are called, where not as the picture. */
  file?: string;
  title: string;
  note?: string | TemplateResult;
  /** The numbers behind it; made when they are asked for. */
  sheet?: () => Sheet;
  png?: boolean;
}

/** Where the pictures are saved from; the nearest `data-picture` around the button holds the picture. */
export function files(store: Store, { name, file = name, title, sheet, png }: PictureHead): TemplateResult {
  const save = (event: Event): Promise<void> => {
    const around = (event.target as Element).closest("[data-picture]");
    const picture = around?.querySelector<CanvasElement>("bv-plane, bv-trend, bv-matrix") ?? null;
    return savePicture(store, picture, file, title);
  };
  return html`<span class="end small">${
    png
      ? html`<button type="button" class="link" data-testid=${`${name}-png`} title=${`${title}: the picture as it is shown`}
          @click=${save}>PNG</button>`
      : nothing
  }${
    sheet === undefined
      ? nothing
      : html` <button type="button" class="link" data-testid=${`${name}-csv`} title=${`${title}: the numbers behind it`}
          @click=${() => saveSheet(store, file, sheet())}>CSV</button>`
  }</span>`;
}

/** A picture among others, with its own title. */
export function picture(store: Store, head: PictureHead, body: TemplateResult): TemplateResult {
  return html`<div class="panel" data-picture data-testid=${head.name}>
    <div class="head noted"><h3>${head.title}</h3>${files(store, head)}<p class="quiet small">${head.note ?? ""}</p></div>
    ${body}
  </div>`;
}

/** A panel that folds up; folded, it asks the plugin for nothing. Without figures (`ready` is false) there is nothing to save. */
export function foldable(
  store: Store,
  head: PictureHead,
  body: () => TemplateResult,
  ready = true,
): TemplateResult {
  const open = !store.isFolded(head.name);
  return html`<section class="panel" aria-label=${head.title} data-picture data-testid=${head.name}>
    <div class="head noted">
      <h2><button type="button" class="fold" aria-expanded=${open} data-testid=${`${head.name}-fold`}
        @click=${() => store.fold(head.name)}>${head.title}</button></h2>
      ${open && ready ? files(store, head) : nothing}
      ${open ? html`<p class="quiet small">${head.note ?? ""}</p>` : nothing}
    </div>
    ${open ? body() : nothing}
  </section>`;
}
