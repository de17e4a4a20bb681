// Line charts over batches: uPlot with epoch marks, a shaded range, spikes and the chosen batch drawn on it.

import { html, LitElement, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import uPlot from "uplot";
import { count, exact, figure, tick } from "../format.js";
import { themeColour } from "./colour.js";
import { drawBroken, drawMarks, drawRange, type Mark, marksAt, snap } from "./marks.js";
import { askToSave } from "./png.js";

export interface Line {
  label: string;
  /** `undefined` where another line has a point and this one none. */
  values: ArrayLike<number | undefined>;
  /** One of the page's colour variables. */
  colour: string;
  width?: number;
  faint?: boolean;
  dashed?: boolean;
  /** Fill from this line down to the next one. */
  band?: boolean;
  /** Drawn, but not read out on hover. */
  silent?: boolean;
  /** Read out on hover, but not drawn: it would press the others flat. */
  hidden?: boolean;
}

/** uPlot draws gaps at `null`; NaN would break its scales, and what is not positive has no logarithm. */
export function gapped(values: ArrayLike<number | undefined>, log = false): (number | null | undefined)[] {
  return Array.from(values, (value) =>
    value === undefined || (Number.isFinite(value) && (!log || value > 0)) ? value : null,
  );
}

/** The value at a point, else the last one before it. */
export function lastKnown(values: ArrayLike<number | undefined>, index: number): number | null {
  for (let at = index; at >= 0; at -= 1) if (values[at] !== undefined) return values[at] ?? null;
  return null;
}

/** A positive number with its first digit alone: from others than these uPlot may count up a log axis without end. */
export function firstDigit(value: number): number {
  const [digits = "1", exponent] = value.toExponential().split("e");
  return Number(`${digits[0]}e${exponent}`);
}

/** What the canvas shows besides its lines: nothing else makes it be drawn again. */
const DRAWN = ["epochs", "spikes", "broken", "range", "top", "zero", "bare"] as const;
const AXIS_FONT = "11px Roboto, system-ui, sans-serif";

/** Of the values on a log axis those that are labelled: 1, 2 and 5 of each power of ten, of many only its 1. */
export function roundOnes(values: readonly number[]): (number | null)[] {
  const first = (value: number): string => value.toExponential(6).replace(/\.?0*e.*/, "");
  const ones = values.filter((value) => first(value) === "1").length;
  const kept = ones > 3 ? ["1"] : ["1", "2", "5"];
  return values.map((value) => (kept.includes(first(value)) ? value : null));
}

@customElement("bv-lines")
export class LinesElement extends LitElement {
  @property({ attribute: false }) steps: ArrayLike<number> = [];
  @property({ attribute: false }) lines: readonly Line[] = [];
  @property({ attribute: false }) epochs: readonly Mark[] = [];
  @property({ attribute: false }) spikes: readonly Mark[] = [];
  /** How many batches of each point have no value that could be drawn: marked at the foot. */
  @property({ attribute: false }) broken: ArrayLike<number> | undefined;
  /** Buttons that belong to this chart. */
  @property({ attribute: false }) controls: TemplateResult | null = null;
  /** The chosen range of steps, `stop` exclusive. */
  @property({ attribute: false, hasChanged: (now, then) => String(now) !== String(then) })
  range: readonly [number, number] | null = null;
  @property({ attribute: false }) marker: number | null = null;
  @property({ attribute: false }) onRange: ((start: number, stop: number) => void) | null = null;
  @property({ attribute: false }) onStep: ((step: number) => void) | null = null;
  @property({ attribute: false }) values: (value: number | null) => string = figure;
  @property({ attribute: false }) ticks: (value: number | null) => string = tick;
  @property({ type: Number }) height = 150;
  @property({ type: Boolean }) dark = false;
  /** The axis of values begins at 0. */
  @property({ type: Boolean }) zero = false;
  @property({ type: Boolean }) log = false;
  /** Top of the axis, where the greatest values are not to set it. */
  @property({ attribute: false }) top: number | null = null;
  /** Leave out the axis of batches: another chart stands right below. */
  @property({ type: Boolean }) bare = false;
  /** Charts of the same group share the cursor. */
  @property() group = "";
  @property() label = "";
  /** What the axis of batches counts instead, where it does not count batches. */
  @property({ attribute: false }) xText: (x: number) => string = (x) => `batch ${count(x)}`;
  @property({ attribute: false }) xTick: (x: number) => string = count;
  @property() yLabel = "";
  @property() heading = "";
  /** Stands where the hover values appear. */
  @property() hint = "";

  private plot: uPlot | null = null;
  private observer: ResizeObserver | null = null;
  private shape = "";

  override createRenderRoot(): HTMLElement {
    return this;
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.observer = new ResizeObserver(() => {
      const width = this.clientWidth;
      if (width > 0 && this.plot?.width !== width) this.plot?.setSize({ width, height: this.height });
    });
    this.observer.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.observer?.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  protected override updated(changed: PropertyValues<this>): void {
    const shape = JSON.stringify([
      this.lines.map(({ label, colour }) => [label, colour]),
      this.dark,
      this.height,
      this.yLabel,
      this.log,
    ]);
    if (this.plot === null || shape !== this.shape) {
      this.shape = shape;
      this.build();
    } else if (changed.has("steps") || changed.has("lines")) {
      this.plot.setData(this.table());
    } else if (DRAWN.some((name) => changed.has(name))) {
      this.plot.redraw(false);
    }
    if (this.plot === null) return;
    this.readOut(this.plot);
    this.placeMarker(this.plot);
  }

  /** The chosen batch is a line above the canvas: moving it draws nothing anew, which stepping on with a key has no time for. */
  private placeMarker(plot: uPlot): void {
    let line = plot.over.querySelector<HTMLElement>(".marker");
    if (line === null) {
      line = document.createElement("div");
      line.className = "marker";
      plot.over.append(line);
    }
    const x = this.marker === null ? -1 : plot.valToPos(this.marker, "x");
    line.hidden = !(x >= 0 && x <= plot.over.clientWidth);
    if (!line.hidden) line.style.transform = `translateX(${x}px)`;
  }

  private table(): uPlot.AlignedData {
    return [
      Array.from(this.steps),
      ...this.lines.map(({ values }) => gapped(values, this.log)),
    ] as uPlot.AlignedData;
  }

  private build(): void {
    this.plot?.destroy();
    const room = this.querySelector<HTMLElement>(".plot");
    if (room === null) return;
    this.plot = new uPlot(this.options(), this.table(), room);
    this.plot.over.addEventListener("mousedown", (event) => {
      this.pressed = { x: event.clientX };
    });
    this.plot.over.addEventListener("mouseup", (event) => {
      const still = this.pressed !== null && Math.abs(event.clientX - this.pressed.x) < 4;
      this.pressed = null;
      if (still) this.clicked(event);
    });
  }

  private options(): uPlot.Options {
    const pen = (plot: uPlot) => ({ plot, ratio: devicePixelRatio || 1, colour: this.colour });
    return {
      width: Math.max(200, this.clientWidth),
      height: this.height,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      bands: this.lines.flatMap((line, index) =>
        line.band
          ? [{ series: [index + 1, index + 2] as [number, number], fill: this.faded(line.colour, 20) }]
          : [],
      ),
      cursor: {
        y: false,
        points: { size: 6 },
        drag: { x: this.onRange !== null, y: false, setScale: false },
        ...(this.group === "" ? {} : { sync: { key: this.group, setSeries: false } }),
      },
      scales: {
        x: { time: false },
        y: this.log
          ? { distr: 3, range: (_, low, high) => this.logLimits(low, high) }
          : { range: (_, low, high) => this.limits(low, high) },
      },
      axes: this.axes(),
      series: [{}, ...this.lines.map((line) => this.series(line))],
      hooks: {
        drawClear: [(plot) => this.range !== null && drawRange(pen(plot), this.range)],
        draw: [
          (plot) => drawBroken(pen(plot), this.steps, this.broken ?? []),
          (plot) => drawMarks(pen(plot), this.epochs, this.spikes),
          (plot) => this.placeMarker(plot),
        ],
        setCursor: [(plot) => this.readOut(plot)],
        setSelect: [(plot) => this.brushed(plot)],
      },
    };
  }

  private readonly colour = (name: string): string => themeColour(this, name);

  private faded(name: string, percent: number): string {
    return `color-mix(in srgb, ${this.colour(name)} ${percent}%, transparent)`;
  }

  private axes(): uPlot.Axis[] {
    const axis = { font: AXIS_FONT, stroke: this.colour("--quiet"), ticks: { show: false } };
    const steps: uPlot.Axis = {
      ...axis,
      show: !this.bare,
      size: 22,
      gap: 3,
      grid: { show: false },
      values: (_, at) => at.map((step) => (Number.isInteger(step) ? this.xTick(step) : "")),
    };
    const values: uPlot.Axis = {
      ...axis,
      size: 58,
      grid: { stroke: this.colour("--line"), width: 1 },
      ...(this.log ? { filter: (_: uPlot, at: number[]) => roundOnes(at) } : {}),
      values: (_, at) => at.map((value) => (value === null ? "" : this.ticks(value))),
      label: this.yLabel,
      labelFont: AXIS_FONT,
      labelSize: 18,
      labelGap: 0,
    };
    return [steps, values];
  }

  private series({ label, colour, faint, width, hidden, dashed }: Line): uPlot.Series {
    return {
      label,
      stroke: this.faded(colour, faint ? 45 : 100),
      width: width ?? 1.5,
      show: hidden !== true,
      ...(dashed ? { dash: [6, 4] } : {}),
      points: { show: this.steps.length < 3 },
    };
  }

  private pressed: { x: number } | null = null;

  private limits(low: number | null, high: number | null): [number, number] {
    if (low === null || high === null) return [0, 1];
    const bottom = this.zero ? Math.min(0, low) : low;
    const top = this.top !== null && this.top > bottom ? Math.min(this.top, high) : high;
    const room = (top - bottom) * 0.06 || Math.abs(top) * 0.1 || 1;
    return [this.zero && low >= 0 ? 0 : bottom - room, top + room];
  }

  private logLimits(low: number | null, high: number | null): [number, number] {
    if (low === null || high === null || high <= 0) return [0.1, 1];
    return [firstDigit(Math.max(low, high * 1e-9) * 0.85), high * 1.2];
  }

  private clicked(event: MouseEvent): void {
    const { plot } = this;
    if (plot === null || this.onStep === null) return;
    const left = event.clientX - plot.over.getBoundingClientRect().left;
    const reach = Math.abs(plot.posToVal(left + 7, "x") - plot.posToVal(left, "x"));
    const spikes = this.spikes.map(({ step }) => step);
    const step = snap(plot.posToVal(left, "x"), this.steps, spikes, reach);
    if (step !== null) this.onStep(step);
  }

  private brushed(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 4 || this.onRange === null) return;
    const start = Math.max(0, Math.ceil(plot.posToVal(left, "x")));
    const stop = Math.floor(plot.posToVal(left + width, "x")) + 1;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (stop > start) this.onRange(start, stop);
  }

  private readOut(plot: uPlot): void {
    const output = this.querySelector(".readout");
    if (output === null) return;
    const index = plot.cursor.idx;
    if (index === null || index === undefined) {
      output.textContent = this.hint;
      output.setAttribute("title", this.hint);
      output.classList.add("quiet");
      return;
    }
    output.classList.remove("quiet");
    const step = this.steps[index] ?? 0;
    const parts = this.lines
      .filter(({ silent }) => !silent)
      .map(({ label, values }) => `${label} ${this.values(lastKnown(values, index))}`);
    const spikes = marksAt(this.spikes, this.steps, index).map((mark) =>
      mark.step === step ? mark.label : `batch ${count(mark.step)}: ${mark.label}`,
    );
    output.textContent = [this.xText(step), ...parts, ...spikes].join(" · ");
    output.setAttribute(
      "title",
      this.lines.map(({ label, values }) => `${label} ${exact(lastKnown(values, index))}`).join("\n"),
    );
  }

  protected override render(): TemplateResult {
    return html`<div class="head line"><h2>${this.heading}</h2><div class="readout quiet"></div>
        <span class="end small">${this.controls}<button type="button" class="link" aria-label=${`PNG of ${this.heading}`}
          @click=${() => askToSave(this)}>PNG</button></span></div>
      <div class="plot" role="img" aria-label=${this.label}></div>`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-lines": LinesElement;
  }
}
