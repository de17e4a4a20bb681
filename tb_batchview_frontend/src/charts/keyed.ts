// A canvas picture in which keys move a cursor: what it stands on is shown, and said to those who do not see it.

import { html, nothing, type TemplateResult } from "lit";
import { property, state } from "lit/decorators.js";
import { sharesOf, type TimeAxis } from "./brush.js";
import { CanvasElement, type Tip } from "./canvas.js";

/** A click is no range: so many pixels must lie between. */
const LEAST_DRAWN = 5;

export abstract class KeyedElement extends CanvasElement {
  /** Short name of the picture. */
  @property() heading = "";
  protected override readonly keyed = true;
  protected override readonly saves: boolean = false; // its panel does
  /** Told of a range of batches that was drawn on the picture. */
  @property({ attribute: false }) onRange: ((start: number, stop: number | null) => void) | null = null;
  private said = "";
  /** Where the mouse was pressed, and where it is since it was drawn along the axis. */
  @state() private drawn: { from: number; to: number | null } | null = null;

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

  /** Where a range of batches can be drawn; `null` where nothing runs over them. */
  protected timeAxis(): TimeAxis | null {
    return null;
  }

  private onDown(event: MouseEvent): void {
    this.busy = false;
    if (event.button !== 0 || this.onRange === null || this.timeAxis() === null) return;
    if (!(event.target instanceof HTMLCanvasElement)) return;
    this.drawn = { from: this.at(event).x, to: null };
    addEventListener("mousemove", this.onDraw);
    addEventListener("mouseup", this.onUp, { once: true }); // it may end outside of the picture
  }

  private readonly onDraw = (event: MouseEvent): void => {
    const { x } = this.at(event);
    if (this.drawn === null || (this.drawn.to === null && Math.abs(x - this.drawn.from) < LEAST_DRAWN))
      return;
    event.preventDefault(); // no text is marked meanwhile
    this.busy = true;
    this.tip = null;
    this.drawn = { from: this.drawn.from, to: x };
  };

  private readonly onUp = (): void => {
    removeEventListener("mousemove", this.onDraw);
    const [drawn, axis] = [this.drawn, this.timeAxis()];
    this.drawn = null;
    if (drawn?.to == null || axis === null) return;
    this.onRange?.(...axis.between(...sharesOf(axis, drawn.from, drawn.to)));
  };

  private band(): TemplateResult | typeof nothing {
    const axis = this.timeAxis();
    if (this.drawn?.to == null || axis === null) return nothing;
    const [from, to] = sharesOf(axis, this.drawn.from, this.drawn.to);
    return html`<div class="u-select" .style=${`left:${axis.left + from * axis.width}px;width:${(to - from) * axis.width}px;top:0;height:100%`}></div>`;
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
    return html`<div role="application" aria-label=${this.heading} @focusin=${this.redraw} @focusout=${this.onBlur} @mousedown=${this.onDown}>${super.render()}${this.band()}</div>
      <div class="hidden" aria-live="polite">${this.said}</div>`;
  }
}
