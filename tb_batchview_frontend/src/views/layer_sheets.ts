// The pictures of layers as tables: what their CSV files hold.

import type { Cell } from "../csv.js";
import type { Block, DeadUnitsAnswer, GradientsHeader, LayerHeader, UnitsHeader } from "../types.js";

interface Sheet {
  head: string[];
  rows: Cell[][];
}

const column = <Header>({ arrays }: Block<Header>, name: string): ArrayLike<number> =>
  arrays[name]?.values ?? [];

/** A number of a file: NaN stands for none. */
const cell = (value: number | undefined): Cell => (value === undefined || Number.isNaN(value) ? null : value);

/** A row a window: figures, and the share of the values in each bin, under its lower edge. */
export function histogramSheet(layer: Block<LayerHeader>): Sheet {
  const { low, high, bins } = layer.header;
  const figures = ["mean", "std", "min", "max", "zero_fraction", "below", "above"];
  const shares = column(layer, "histogram");
  const edges = Array.from({ length: bins }, (_, bin) => String(low + ((high - low) * bin) / bins));
  return {
    head: ["step", ...figures, ...edges.map((edge) => `from ${edge}`)],
    rows: Array.from(column(layer, "step"), (step, window) => [
      step,
      ...figures.map((name) => cell(column(layer, name)[window])),
      ...edges.map((_, bin) => cell(shares[window * bins + bin])),
    ]),
  };
}

const UNIT_COLUMNS = ["mean", "zero_fraction", "saturated_fraction", "dead_batches", "saturated_batches"];

/** A row a unit: figures of the range, and the one shown in each window. */
export function unitSheet(units: Block<UnitsHeader>): Sheet {
  const { figure, shown } = units.header;
  const values = column(units, "values");
  return {
    head: ["unit", ...UNIT_COLUMNS, ...Array.from(column(units, "step"), (step) => `${figure} at ${step}`)],
    rows: Array.from(column(units, "unit"), (unit, row) => [
      unit,
      ...UNIT_COLUMNS.map((name) => cell(column(units, name)[row])),
      ...Array.from(column(units, "step"), (_, window) => cell(values[window * shown + row])),
    ]),
  };
}

export function deadSheet({ dead, saturated, batches }: DeadUnitsAnswer): Sheet {
  const rows = (units: readonly number[], state: string): Cell[][] =>
    units.map((unit) => [unit, state, batches]);
  return {
    head: ["unit", "state", "batches"],
    rows: [...rows(dead.units, "dead"), ...rows(saturated.units, "saturated")],
  };
}

/** A row a window and layer. */
export function normSheet(norms: Block<GradientsHeader>): Sheet {
  const { layers } = norms.header;
  const figures = ["mean", "min", "max", "nonfinite"];
  return {
    head: ["step", "layer", ...figures.map((name) => (name === "nonfinite" ? name : `norm_${name}`))],
    rows: Array.from(column(norms, "step")).flatMap((step, window) =>
      layers.map(({ name }, place) => [
        step,
        name,
        ...figures.map((figure) => cell(column(norms, figure)[window * layers.length + place])),
      ]),
    ),
  };
}
