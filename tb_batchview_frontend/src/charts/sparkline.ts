// A line the size of a word: shares over the windows, for a cell of a table.

import { html, svg, type TemplateResult } from "lit";

const WIDTH = 100;
const HEIGHT = 20;

/** The runs of values without a gap, as points of a picture of `WIDTH` × `HEIGHT`; pure. */
export function sparkPoints(values: readonly (number | null)[]): [number, number][][] {
  const runs: [number, number][][] = [];
  const step = WIDTH / Math.max(1, values.length - 1);
  let open = false;
  values.forEach((value, index) => {
    if (value === null) {
      open = false;
      return;
    }
    if (!open) runs.push([]);
    open = true;
    const at = values.length === 1 ? WIDTH / 2 : index * step;
    runs[runs.length - 1]?.push([
      Number(at.toFixed(2)),
      Number((HEIGHT - 1 - value * (HEIGHT - 2)).toFixed(2)),
    ]);
  });
  return runs;
}

/** `label` says what is seen. The line reaches from 0 at the bottom to 1 at the top. */
export function sparkline(values: readonly (number | null)[], label: string): TemplateResult {
  // A single value is a dot: a short stroke with round ends.
  const path = sparkPoints(values)
    .map((run) => `M${(run.length === 1 ? [...run, ...run] : run).map(([x, y]) => `${x} ${y}`).join("L")}`)
    .join("");
  return html`<svg class="spark" role="img" aria-label=${label} viewBox="0 0 100 20" preserveAspectRatio="none">${svg`<path d=${path} vector-effect="non-scaling-stroke"></path>`}</svg>`;
}
