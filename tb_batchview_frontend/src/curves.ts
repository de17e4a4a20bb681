// What a binary output predicts at each threshold, and the curves that makes. Pure.

export interface Thresholds {
  thresholds: ArrayLike<number>;
  truePositives: ArrayLike<number>;
  falsePositives: ArrayLike<number>;
  positives: number;
  negatives: number;
}

/** Counts and shares at one threshold; `null` where a share is one of nothing. */
export interface Decision {
  threshold: number;
  tp: number;
  fp: number;
  fn: number;
  tn: number;
  precision: number | null;
  recall: number | null;
  f1: number | null;
  fpr: number | null;
}

const divided = (part: number, whole: number): number | null => (whole > 0 ? part / whole : null);

export function decisionAt(curve: Thresholds, index: number): Decision {
  const tp = curve.truePositives[index] ?? 0;
  const fp = curve.falsePositives[index] ?? 0;
  const [fn, tn] = [curve.positives - tp, curve.negatives - fp];
  return {
    threshold: curve.thresholds[index] ?? 0,
    tp,
    fp,
    fn,
    tn,
    precision: divided(tp, tp + fp),
    recall: divided(tp, curve.positives),
    f1: divided(2 * tp, 2 * tp + fp + fn),
    fpr: divided(fp, curve.negatives),
  };
}

/** Points of a curve, each with the first threshold that leads to it. */
export interface Curve {
  x: number[];
  y: number[];
  indices: number[];
}

/** One point for all thresholds that predict the same; those without a value are left out. */
export function curveOf(
  curve: Thresholds,
  point: (decision: Decision) => readonly [number | null, number | null],
): Curve {
  const made: Curve = { x: [], y: [], indices: [] };
  let before = "";
  for (let index = 0; index < curve.thresholds.length; index += 1) {
    const decision = decisionAt(curve, index);
    const [x, y] = point(decision);
    const now = `${decision.tp} ${decision.fp}`;
    if (x === null || y === null || now === before) continue;
    before = now;
    made.x.push(x);
    made.y.push(y);
    made.indices.push(index);
  }
  return made;
}

/** The point of a curve that a threshold leads to; `null` when it has none. */
export function pointOf({ indices }: Curve, index: number): number | null {
  let found: number | null = null;
  for (let point = 0; point < indices.length; point += 1) {
    if ((indices[point] ?? 0) <= index) found = point;
  }
  return found;
}
