// The data map of the Samples tab: each id a point; a box in it chooses the samples of the table.

import { html, nothing, type TemplateResult } from "lit";
import { greatestSpread, type Points } from "../charts/scatter_geometry.js";
import "../charts/scatter.js";
import { count, exact, exactPercent, idName, many } from "../format.js";
import { type Box, readBox } from "../sample_filter.js";
import type { Store } from "../state.js";
import type { Block, DataMapHeader } from "../types.js";
import { chip, waiting } from "./parts.js";

/** The same object for the same answer, so that what the picture is of changes with the answer alone. */
const drawn = new WeakMap<object, Points>();
function pointsOf(answer: Block<DataMapHeader>): Points {
  const known = drawn.get(answer);
  if (known !== undefined) return known;
  const { mean_target_score: y, variability: x, correctness: share } = answer.arrays;
  const points = { x: x?.values ?? [], y: y?.values ?? [], share: share?.values ?? [] };
  const made = { ...points, most: greatestSpread(points.x) };
  drawn.set(answer, made);
  return made;
}

function pointWords({ header, arrays }: Block<DataMapHeader>, index: number): string {
  const value = (name: string): number | undefined => arrays[name]?.values[index];
  return [
    idName(header.names[index] ?? ""),
    `mean target score ${exact(value("mean_target_score"))}, variability ${exact(value("variability"))}`,
    `seen ${many(value("seen") ?? 0, "time")}, right ${exactPercent(value("correctness") ?? Number.NaN)}`,
    `forgotten ${many(value("forgetting") ?? 0, "time")}, margin ${exact(value("margin"))}`,
  ].join("\n");
}

const ENDS = [
  "least mean target score",
  "greatest mean target score",
  "least variability",
  "greatest variability",
];

/** The box as numbers, for those who do not draw. */
function boxInputs(store: Store, most: number): TemplateResult {
  const { box } = store.selection;
  const whole: Box = [0, 1, 0, most];
  const set = (place: number, text: string): void => {
    const ends = [...(box ?? whole)].map(String);
    ends[place] = text;
    const drawn = readBox(ends.join("~"));
    store.select(drawn === undefined ? { box: null } : { box: drawn, each: "last" });
  };
  const end = (
    place: number,
  ): TemplateResult => html`<input class="narrow" inputmode="decimal" aria-label=${ENDS[place] ?? ""}
    data-testid=${`box-${place}`} .value=${String((box ?? whole)[place])}
    @change=${(event: Event) => {
      const input = event.target as HTMLInputElement;
      set(place, input.value);
      input.value = String((store.selection.box ?? whole)[place]);
    }} />`;
  return html`<div class="chips small ranges" role="group" aria-label="Box of the data map">
    <span>mean target score ${end(0)} – ${end(1)}</span><span>variability ${end(2)} – ${end(3)}</span>
    ${box === null ? nothing : chip("whole map", false, () => store.select({ box: null }), "box-off")}
  </div>`;
}

export function dataMapPanel(store: Store): TemplateResult {
  const { value: answer, error, loading } = store.dataMap;
  const head = html`<div class="head"><h2>Data map</h2>
    <span class="quiet small">how each sample was learned in the range: Swayamdipta et al. 2020, “Dataset Cartography”</span></div>`;
  if (answer === null)
    return html`<section class="panel" data-testid="data-map">${head}${waiting(error, loading || error === null, "")}</section>`;
  const { header, arrays } = answer;
  if (header.shown === 0)
    return html`<section class="panel" data-testid="data-map">${head}<p class="state">No sample with an id and a target in this range.</p></section>`;
  const points = pointsOf(answer);
  const part = header.shown < header.ids ? `, an even draw of ${count(header.ids)}` : "";
  const { sample } = store.selection;
  const steps = arrays.step?.values ?? [];
  const places = arrays.sample?.values ?? [];
  const picked =
    sample === null
      ? -1
      : Array.from(steps).findIndex((step, index) => step === sample.step && places[index] === sample.sample);
  const words = `Data map of ${many(header.shown, "sample")}${part}: mean target score upwards, variability to the right, green where it was always right, red where never. Arrow keys move between samples, Enter opens one; the boxes below choose a part.`;
  return html`<section class="panel" aria-label="Data map" data-testid="data-map">${head}
    ${error === null ? nothing : html`<p class="bad" role="alert">${error}</p>`}
    <bv-scatter
      label=${words}
      .points=${points}
      .box=${store.selection.box}
      .picked=${picked < 0 ? null : picked}
      ?dark=${store.dark}
      .describe=${(index: number) => pointWords(answer, index)}
      .onBox=${(box: Box | null) => store.select(box === null ? { box } : { box, each: "last" })}
      .onPick=${(index: number) => store.select({ sample: { step: steps[index] ?? 0, sample: places[index] ?? 0 } })}
    ></bv-scatter>
    <p class="quiet small">${many(header.shown, "sample")}${part} · <span class="ramp" aria-hidden="true"></span> never right to always right ·
      above: easy to learn; right: ambiguous; below left: hard to learn, often wrong labels · draw a box to choose</p>
    ${boxInputs(store, points.most)}
    <p class="quiet small">${
      store.chosen?.phase?.name === "train"
        ? "Made of training predictions, as the papers do: with dropout and augmentation, and weights that move between samples. Accuracy, calibration and confident learning are not valid on them; take validation."
        : "Made of the predictions of this phase, where each pass has the same weights for all samples."
    }</p>
  </section>`;
}
