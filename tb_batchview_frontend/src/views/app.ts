// The frame: sidebar, tabs, sentence, content; keys, link and CSV.

import { html, LitElement, nothing, type TemplateResult } from "lit";
import { customElement } from "lit/decorators.js";
import { SAVE_PICTURE } from "../charts/png.js";
import type { Chosen } from "../choice.js";
import { linkTo } from "../host.js";
import { TABS, type Tab } from "../selection.js";
import type { Store } from "../state.js";
import { batchesView } from "./batches.js";
import { classesView } from "./classes.js";
import { comparedSentence } from "./compare_sidebar.js";
import { doctorView } from "./doctor.js";
import { saveView } from "./download.js";
import { emptyView, readingWords } from "./empty.js";
import { keysView, pressKey } from "./keys.js";
import { layersView } from "./layers.js";
import { waiting } from "./parts.js";
import { samplesView } from "./samples.js";
import { savePicture } from "./save.js";
import { bannersView, sentenceView } from "./sentence.js";
import { sidebarView } from "./sidebar.js";
import type { TableElement } from "./table.js";

const TAB_LABELS: Record<Tab, string> = {
  batches: "Batches",
  classes: "Classes",
  samples: "Samples",
  layers: "Layers",
};
const VIEWS: Record<Tab, (store: Store) => TemplateResult> = {
  batches: batchesView,
  classes: classesView,
  samples: samplesView,
  layers: layersView,
};

@customElement("batch-view")
export class AppElement extends LitElement {
  store: Store | null = null;

  override createRenderRoot(): HTMLElement {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    document.addEventListener("keydown", this.onKey);
    this.addEventListener(SAVE_PICTURE, this.onSave);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    document.removeEventListener("keydown", this.onKey);
    this.removeEventListener(SAVE_PICTURE, this.onSave);
  }

  private readonly onSave = (event: Event): void => {
    if (this.store !== null && event.target instanceof HTMLElement)
      void savePicture(this.store, event.target);
  };

  private readonly onKey = (event: KeyboardEvent): void => {
    const { store } = this;
    if (store === null || store.help || store.checkup || event.ctrlKey || event.altKey || event.metaKey)
      return;
    const from = event.target instanceof Element ? event.target : null;
    if (from?.closest("input, select, textarea, dialog") && event.key !== "Escape") return;
    if (from?.closest('[role="tablist"]') && event.key.startsWith("Arrow")) return;
    const moveRow = (by: number): void =>
      this.querySelector<TableElement>("bv-table[data-primary]")?.move(by);
    const search = (): void =>
      (
        this.querySelector<HTMLInputElement>("#id-search") ?? this.querySelector<HTMLInputElement>("#search")
      )?.focus();
    if (pressKey(store, event.key, moveRow, search)) event.preventDefault();
  };

  private opened: object | null = null;
  private choice: string | null | undefined;

  /** Samples that a click has asked for may have come below what is in sight, above all in a narrow window. */
  private revealSamples(): void {
    const head = this.querySelector<HTMLElement>("[data-choice]");
    const choice = head?.dataset.choice ?? null;
    const again = this.choice === undefined || this.choice === choice;
    this.choice = choice;
    if (!again) head?.scrollIntoView({ block: "nearest" });
  }

  protected override updated(): void {
    this.revealSamples();
    const sample = this.store?.sample.value ?? null;
    const card =
      this.querySelector('[data-testid="sample-scores"]')?.closest('[data-testid="sample"]') ?? null;
    if (sample === null) this.opened = null;
    else if (card !== null && sample !== this.opened) {
      this.opened = sample;
      card.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
      card.scrollIntoView({ block: "nearest" }); // it may have opened below what is in sight
    }
    if (this.store === null) return;
    const { help, checkup } = this.store;
    for (const [index, open] of [help, checkup].entries()) {
      const sheet = this.querySelectorAll("dialog")[index];
      if (open && sheet?.open === false) sheet.showModal();
      if (!open && sheet?.open) sheet.close();
    }
  }

  private async copyLink(store: Store): Promise<void> {
    const link = linkTo(store.fullAddress);
    try {
      await navigator.clipboard.writeText(link);
      store.set({ notice: "link copied" });
    } catch {
      // Without a secure origin there is no clipboard; the address line holds the same link.
      store.set({ notice: "the link is in the address line" });
    }
    setTimeout(() => store.set({ notice: "" }), 3000);
  }

  private renderTabs(store: Store): TemplateResult {
    const { tab } = store.selection;
    const onKey = (event: KeyboardEvent): void => {
      const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      const next = TABS[(TABS.indexOf(tab) + by + TABS.length) % TABS.length];
      if (by === 0 || next === undefined) return;
      event.preventDefault();
      store.select({ tab: next });
      this.updateComplete.then(() =>
        this.querySelector<HTMLElement>('[role="tab"][aria-selected="true"]')?.focus(),
      );
    };
    return html`<div class="tabs">
      <div role="tablist" aria-label="Views" @keydown=${onKey}>${TABS.map(
        (name) => html`<button
          type="button"
          role="tab"
          id=${`tab-${name}`}
          data-testid=${`tab-${name}`}
          aria-selected=${tab === name}
          aria-controls="content"
          tabindex=${tab === name ? 0 : -1}
          @click=${() => store.select({ tab: name })}
        >${TAB_LABELS[name]}</button>`,
      )}</div>
      <div class="end small">
        <span class="quiet" role="status" data-testid="notice">${store.notice}</span>
        <button type="button" class="link" data-testid="link" @click=${() => this.copyLink(store)}>link to this view</button>
        <button type="button" class="link" data-testid="csv" title="the table of this tab, all its rows in this order"
          @click=${() => saveView(store)}>CSV</button>
      </div>
    </div>`;
  }

  private renderContent(store: Store, { run, phase }: Chosen): TemplateResult {
    if (run.indexing !== null && (phase === null || phase.batches === 0)) {
      return html`<p class="state" data-testid="reading">${readingWords(run.indexing)} The first batches appear here as soon as they are read.</p>`;
    }
    if (phase === null || phase.batches === 0) {
      return html`<p class="state" data-testid="no-batches">No batch has been recorded yet. The first ones appear here as soon as they are written.</p>`;
    }
    if (store.overview.value === null && store.overview.error !== null)
      return waiting(store.overview.error, false, "");
    return VIEWS[store.selection.tab](store);
  }

  protected override render(): TemplateResult | typeof nothing {
    const { store } = this;
    if (store === null) return nothing;
    const { chosen } = store;
    if (chosen === null) return emptyView(store);
    return html`${sidebarView(store, chosen)}
      <main>
        <h1 class="hidden">Batch View</h1>
        ${this.renderTabs(store)} ${bannersView(store, chosen)} ${sentenceView(store, chosen)} ${comparedSentence(store, chosen)}
        <div class="content" id="content" role="tabpanel" aria-labelledby=${`tab-${store.selection.tab}`} data-testid="content">${this.renderContent(store, chosen)}</div>
      </main>
      ${keysView(store)}${doctorView(store)}`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "batch-view": AppElement;
  }
}
