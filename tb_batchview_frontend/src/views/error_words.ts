// What "error" means for each task, in words.

import { figure, percent } from "../format.js";
import type { Output, Task } from "../types.js";

export const errorLabel = (output: Output | null): string =>
  output?.task === "regression"
    ? "mean absolute error"
    : output?.task === "multilabel"
      ? "share of wrong labels"
      : "error rate";

/** Head of the column; the axis has it in small letters. */
export const ERROR_HEADS: Record<Task, string> = {
  multiclass: "Error rate",
  binary: "Error rate",
  multilabel: "Wrong labels",
  regression: "Abs. error",
};

export const errorText = (output: Output | null, value: number | null): string =>
  output?.task === "regression" ? figure(value) : percent(value);
