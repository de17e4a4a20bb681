// The confusion matrix of run A less that of run B: orange where A has more, blue where B has.

import { customElement } from "lit/decorators.js";
import { shortName } from "../format.js";
import { DeltaModel, isPaired } from "./delta_model.js";
import { MatrixElement } from "./matrix.js";
import type { Place } from "./matrix_geometry.js";
import { MatrixModel, type MatrixOptions } from "./matrix_model.js";

@customElement("bv-delta-matrix")
export class DeltaMatrixElement extends MatrixElement {
  protected override modelOf(options: MatrixOptions): MatrixModel {
    return isPaired(this.matrix)
      ? new DeltaModel(this.matrix, options)
      : new MatrixModel(this.matrix, options);
  }

  protected override describe(place: Place): string {
    const { model } = this;
    if (!(model instanceof DeltaModel)) return super.describe(place);
    const name = (position: number): string => shortName(model.name(position), 60);
    const { row, column } = place;
    const head = [
      row === null ? "" : `target ${name(row)}`,
      column === null ? "" : `predicted ${name(column)}`,
    ];
    return [head.filter((part) => part !== "").join(" → "), ...model.describe(place)].join("\n");
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "bv-delta-matrix": DeltaMatrixElement;
  }
}
