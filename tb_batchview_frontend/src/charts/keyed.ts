// A canvas picture in which keys move a cursor: what it stands on is shown, and said to those who do not see it.

import { html, type TemplateResult } from "lit";
import { property } from "lit/decorators.js";
import { CanvasElement, type Tip } from "./canvas.js";

export abstract class KeyedElement extends CanvasElement {
  /** Short name of the picture. */
  @property() heading = "";
  protected override readonly keyed = true;
  protected override readonly saves: boolean = false; // its panel does
  private said = "";

  /** Move the cursor as a key says; tells whether the key means something. */
  protected abstract moveCursor(key: string, far: boolean): boolean;
  /** What the cursor stands on, and where; `null` without one. */
  protected abstract spot(): Tip | null;
  protected abstract choose(): void;
  protected abstract drawCursor(context: CanvasRenderingContext2D): void;

  protected override draw(context: CanvasRenderingContext2D): void {
    this.drawPicture(context, window.devicePixelRatio || 1);
    if (this.querySelector("canvas")?.matches(":focus-visible")) this.drawCursor(context);
  }

  /** The picture itself; `draw` puts the cursor on it. */
  protected abstract override drawPicture(context: CanvasRenderingContext2D, ratio: number): void;

  protected override key(event: KeyboardEvent): void {
    if (event.altKey) return;
    if (event.key === "Enter" && this.spot() !== null) this.choose();
    else if (this.moveCursor(event.key, event.ctrlKey || event.metaKey)) this.tellSpot();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private tellSpot(): void {
    this.tip = this.spot();
    this.said = (this.tip?.text ?? "").replaceAll("\n", ". ");
    this.redraw();
  }

  /** Of another picture what was said no longer holds. */
  protected forgetSpot(): void {
    this.tip = null;
    this.said = "";
  }

  private onBlur(): void {
    this.forgetSpot();
    this.requestUpdate();
  }

  protected override render(): TemplateResult {
    return html`<div role="application" aria-label=${this.heading} @focusin=${this.redraw} @focusout=${this.onBlur}>${super.render()}</div>
      <div class="hidden" aria-live="polite">${this.said}</div>`;
  }
}
