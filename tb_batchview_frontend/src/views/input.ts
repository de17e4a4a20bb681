// What the model was given of a sample: its picture, or its text. Asked for only while it is in view.

import { html, LitElement, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { address, fetchInput, type Query } from "../api.js";
import type { Store } from "../state.js";
import type { Sample } from "../types.js";
import { idText } from "./sample_columns.js";
import type { TableColumn } from "./table.js";

/** Rows that are only scrolled past ask for nothing. */
export const RESTS = 90;

const addressOf = (query?: Query): string => address("thumbnail", query);

@customElement("bv-input")
export class InputElement extends LitElement {
  /** Of which sample. */
  @property({
    attribute: false,
    hasChanged: (now: Query, before?: Query) => addressOf(now) !== addressOf(before),
  })
  query: Query = {};
  @property() words = "";
  /** Text, else a picture. */
  @property({ type: Boolean }) text = false;

  private shown: string | null = null;
  private missing = "";
  private waits: ReturnType<typeof setTimeout> | undefined;
  private asked: AbortController | null = null;

  override createRenderRoot(): HTMLElement {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.begin();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.stop();
  }

  protected override willUpdate(changed: Map<PropertyKey, unknown>): void {
    if (changed.has("query")) this.begin();
  }

  private stop(): void {
    clearTimeout(this.waits);
    this.asked?.abort();
    // What is still on its way holds up the rows that are in view now.
    this.querySelector("img")?.removeAttribute("src");
    this.shown = null;
  }

  private begin(): void {
    this.stop();
    this.missing = "";
    this.waits = setTimeout(() => this.ask(), RESTS);
  }

  private async ask(): Promise<void> {
    if (this.text) {
      this.asked = new AbortController();
      const { signal } = this.asked;
      try {
        const { text } = await fetchInput(this.query, signal);
        if (!signal.aborted) this.shown = text;
      } catch (error) {
        if (signal.aborted) return;
        this.missing = error instanceof Error ? error.message : String(error);
      }
    } else this.shown = addressOf(this.query);
    this.requestUpdate();
  }

  private loaded(event: Event): void {
    const image = event.target as HTMLImageElement;
    // Every pixel of a small one, no blur; a large one is made small smoothly.
    image.classList.toggle("pixels", image.naturalWidth < image.width);
  }

  private failed(): void {
    this.missing = "No picture can be shown of this sample";
    this.requestUpdate();
  }

  protected override render(): TemplateResult | typeof nothing {
    if (this.missing !== "")
      return html`<span class="quiet" role="img" aria-label=${this.missing} title=${this.missing}>–</span>`;
    if (this.shown === null) return nothing;
    return this.text
      ? html`<span dir="auto" title=${this.shown}>${this.shown}</span>`
      : html`<img src=${this.shown} alt=${this.words} decoding="async" @load=${this.loaded} @error=${this.failed} />`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-input": InputElement;
  }
}

/** The input of a sample of A; nothing where the run has none. */
export function inputView(store: Store, sample: Sample): TemplateResult | typeof nothing {
  const { run, phase, output } = store.chosen ?? {};
  if (!phase?.inputs) return nothing;
  const { step, sample: row } = sample;
  const query = { run: run?.name, phase: phase.name, output: output?.name, step, sample: row };
  return html`<bv-input
    .query=${query}
    .words=${`Input of sample ${idText(sample)}`}
    .text=${phase.inputs === "text"}
  ></bv-input>`;
}

/** The column of inputs, where there are any. */
export function inputColumns<Row extends Sample>(store: Store): TableColumn<Row>[] {
  const inputs = store.chosen?.phase?.inputs;
  if (!inputs) return [];
  const tall = inputs === "images";
  return [
    {
      key: "input",
      label: "Input",
      title: "What the model was given",
      width: tall ? 54 : 120,
      tall,
      cell: (row) => html`${inputView(store, row)}`,
    },
  ];
}
