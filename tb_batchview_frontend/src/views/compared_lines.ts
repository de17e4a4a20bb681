// One figure of both runs over the batches, a line each on one axis.

import { html, type TemplateResult } from "lit";
import type { Line } from "../charts/lines.js";
import "../charts/lines.js";
import { nearest, placeOn, stepOn } from "../compare.js";
import { count, figure, tick } from "../format.js";
import type { Store } from "../state.js";
import { axisHint, axisText, onAxis, sharedAxis } from "./compare_batches.js";

export interface Series {
  step: ArrayLike<number>;
  values: ArrayLike<number>;
}

export interface ComparedChart {
  hook: string;
  heading: string;
  label: string;
  yLabel: string;
  values?: (value: number | null) => string;
  ticks?: (value: number | null) => string;
  zero?: boolean;
  log?: boolean;
  bare?: boolean;
  group?: string;
}

export function comparedLines(store: Store, chart: ComparedChart, a: Series, b: Series): TemplateResult {
  const axis = sharedAxis(store.selection.axis, a.step, b.step);
  const { xText, xTick } = axisText(axis);
  const { batch } = store.selection;
  const line = (which: "a" | "b", { values }: Series): Line => ({
    label: `${which.toUpperCase()} ${chart.yLabel}`,
    values: onAxis(axis, which, values),
    colour: `--run-${which}-line`,
    width: 2,
    dashed: which === "b",
  });
  const onStep = (x: number): void => {
    const step = nearest(a.step, stepOn(axis.kind, x, axis.a));
    if (step !== null) store.select({ batch: step });
  };
  return html`<bv-lines
    data-testid=${chart.hook}
    group=${chart.group ?? ""}
    heading=${chart.heading}
    hint=${`B dashed · ${axisHint(axis)}`}
    label=${chart.label}
    yLabel=${chart.yLabel}
    .steps=${axis.aligned.xs}
    .lines=${[line("b", b), line("a", a)]}
    .marker=${batch === null ? null : placeOn(axis.kind, batch, axis.a)}
    .onStep=${onStep}
    .xText=${xText ?? ((x: number) => `batch ${count(x)}`)}
    .xTick=${xTick ?? count}
    .values=${chart.values ?? figure}
    .ticks=${chart.ticks ?? tick}
    ?dark=${store.dark}
    ?bare=${chart.bare}
    ?zero=${chart.zero}
    ?log=${chart.log}
    height=${chart.bare ? 130 : 110}
  ></bv-lines>`;
}
