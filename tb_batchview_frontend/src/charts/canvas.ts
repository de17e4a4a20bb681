// What every canvas picture shares: its size, the device's pixels, one redraw a frame, the text alternative, the hover text, the PNG.

import { html, LitElement, nothing, type TemplateResult } from "lit";
import { property, state } from "lit/decorators.js";
import { askToSave, composePng } from "./png.js";

export interface Tip {
  text: string;
  x: number;
  y: number;
}

export abstract class CanvasElement extends LitElement {
  @property({ type: Boolean }) dark = false;
  /** What the picture is, said to those who do not see it. */
  @property() label = "";
  @state() protected tip: Tip | null = null;
  protected width = 0;
  protected height = 0;
  /** Keys move about in the picture. */
  protected readonly keyed: boolean = false;
  /** It has a button of its own that saves it. */
  protected readonly saves: boolean = true;
  /** The mouse is or was just drawing: it neither points at anything nor clicks. */
  protected busy = false;
  private frame = 0;
  private observer: ResizeObserver | null = null;

  /** Height in CSS pixels for a width. */
  protected abstract heightFor(width: number): number;
  protected abstract draw(context: CanvasRenderingContext2D): void;
  protected abstract hover(x: number, y: number): string | null;
  protected press(_x: number, _y: number): void {}
  protected key(_event: KeyboardEvent): void {}

  override createRenderRoot(): HTMLElement {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.observer = new ResizeObserver(() => {
      if (this.clientWidth !== this.width) this.redraw();
    });
    this.observer.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.observer?.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }

  /** Draw before the next frame, however often this is asked for. */
  redraw(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  protected override updated(): void {
    this.redraw();
  }

  private paint(): void {
    const canvas = this.querySelector("canvas");
    const context = canvas?.getContext("2d") ?? null;
    if (canvas === null || context === null || this.clientWidth === 0) return;
    const ratio = window.devicePixelRatio || 1;
    this.width = this.clientWidth;
    this.height = this.heightFor(this.width);
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    canvas.style.height = `${this.height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.draw(context);
  }

  /** What a saved picture holds: not what only shows where the reader is. */
  protected drawPicture(context: CanvasRenderingContext2D, _ratio: number): void {
    this.draw(context);
  }

  /** The picture as a PNG, at twice its size on the page, under words that say what it is. */
  toPng(words: readonly string[]): Promise<Blob | null> {
    const size = { width: this.width, height: this.height, ratio: 2 };
    return composePng(this, words, size, (context) => this.drawPicture(context, size.ratio));
  }

  protected at(event: MouseEvent): { x: number; y: number } {
    const box = this.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  private onMove(event: MouseEvent): void {
    if (this.busy && event.buttons !== 0) return;
    const { x, y } = this.at(event);
    const text = this.hover(x, y);
    this.tip = text === null ? null : { text, x, y };
  }

  private onLeave(): void {
    this.hover(-1, -1);
    this.tip = null;
  }

  private onClick(event: MouseEvent): void {
    if (this.busy) {
      this.busy = false;
      return;
    }
    const { x, y } = this.at(event);
    this.press(x, y);
  }

  protected override render(): TemplateResult {
    const { tip } = this;
    const left = tip !== null && tip.x > this.width / 2;
    const place =
      tip === null
        ? ""
        : `${left ? `right:${this.width - tip.x + 12}px` : `left:${tip.x + 12}px`};top:${Math.max(0, tip.y - 10)}px`;
    return html`<div class="picture">
      <canvas
        role="img"
        tabindex=${this.keyed ? 0 : nothing}
        aria-label=${this.label}
        @mousemove=${this.onMove}
        @mouseleave=${this.onLeave}
        @click=${this.onClick}
        @keydown=${(event: KeyboardEvent) => this.key(event)}
      ></canvas>
      ${this.saves ? html`<button type="button" class="button save" aria-label="PNG of this picture" @click=${() => askToSave(this)}>PNG</button>` : nothing}
      ${tip === null ? nothing : html`<div class="tip" role=${this.keyed ? nothing : "status"} .style=${place}>${tip.text}</div>`}
    </div>`;
  }
}
