import { expect, test } from "vitest";
import { csvCell, csvText } from "../src/csv.js";
import {
  ago,
  bytes,
  bytesOf,
  className,
  count,
  exact,
  exactPercent,
  figure,
  many,
  percent,
  percentTick,
  progress,
  score,
  shortName,
  tick,
} from "../src/format.js";

test.each([
  [
    count,
    [
      [19200, "19,200"],
      [0, "0"],
      [-5, "−5"],
      [null, "–"],
      [Number.NaN, "NaN"],
    ],
  ],
  [
    figure,
    [
      [1.95, "1.950"],
      [0.31, "0.3100"],
      [12345.6, "12,346"],
      [0, "0"],
      [0.00001234, "1.23e-5"],
      [-2.5, "−2.500"],
      [4.2e9, "4.20e+9"],
      [null, "–"],
      [Number.POSITIVE_INFINITY, "∞"],
    ],
  ],
  [
    percent,
    [
      [0.081, "8.1\u00a0%"],
      [1, "100.0\u00a0%"],
      [0, "0.0\u00a0%"],
      [0.0004, "0.04\u00a0%"],
      [null, "–"],
    ],
  ],
  [
    score,
    [
      [0.97, "0.970"],
      [0, "0.000"],
      [0.0001, "1e-4"],
      [Number.NaN, "NaN"],
    ],
  ],
  [
    tick,
    [
      [2, "2"],
      [0.30000000000000004, "0.3"],
      [12000, "12,000"],
      [1e-5, "1e-5"],
    ],
  ],
  [
    percentTick,
    [
      [0.25, "25\u00a0%"],
      [0.005, "0.5\u00a0%"],
    ],
  ],
  [
    exact,
    [
      [0.1 + 0.2, "0.30000000000000004"],
      [null, "–"],
    ],
  ],
  [
    bytes,
    [
      [999, "999 B"],
      [5123456, "5.1 MB"],
    ],
  ],
] as [(value: number | null) => string, [number | null, string][]][])(
  "%o writes numbers for readers",
  (write, cases) => {
    expect(cases.map(([value]) => write(value))).toEqual(cases.map(([, text]) => text));
  },
);

test("all digits of a number in single precision are those that tell it from its neighbours", () => {
  const values = [0.1, 1 / 3, 16_777_216, 1e-38, 3.4e38, -0.85].map(Math.fround);
  expect(values.map(exact)).toEqual(["0.1", "0.33333334", "16777216", "1e-38", "3.4e+38", "-0.85"]);
  expect(values.map((value) => Math.fround(Number(exact(value))))).toEqual(values);
  expect([1 / 3, 0.1, 0, -0, 12].map(exact)).toEqual(["0.3333333333333333", "0.1", "0", "0", "12"]);
  expect(exactPercent(Math.fround(2 / 7))).toBe("28.571430 %".replace("0 ", " "));
});

test("one is one and two are many", () => {
  expect([many(1, "batch", "batches"), many(1200, "batch", "batches"), many(0, "sample")]).toEqual([
    "1 batch",
    "1,200 batches",
    "0 samples",
  ]);
});

test("time since is in the largest unit that fits", () => {
  const now = 1_000_000;
  expect([2, 61, 7300, 90000, -5].map((seconds) => ago(now - seconds, now))).toEqual([
    "2 s ago",
    "1 min ago",
    "2 h ago",
    "1 d ago",
    "0 s ago",
  ]);
  expect(ago(null, now)).toBe("never");
});

test("a class without a name is its number", () => {
  expect([
    className(["cat", "dog"], 1),
    className(["cat"], 5),
    className(null, 3),
    className(["cat"], null),
  ]).toEqual(["dog", "5", "3", "–"]);
});

test("a name that turns the direction of writing stays by itself", () => {
  expect(className(["\u202eabc"], 0)).toBe("\u2068\u202eabc\u2069");
});

test("a CSV cell keeps numbers, quotes text and runs no formula", () => {
  expect(
    ["a,b", 'say "hi"', "=1+1", "-cmd", "+x", "@y", -0.5, null, undefined, "line\nbreak"].map(csvCell),
  ).toEqual(['"a,b"', '"say ""hi"""', "'=1+1", "'-cmd", "'+x", "'@y", "-0.5", "", "", '"line\nbreak"']);
  expect(csvText(["step", "loss"], [[1, 0.5]])).toBe("step,loss\r\n1,0.5\r\n");
});

test("progress is in the unit of the whole, and 100 % only when it is all", () => {
  expect(bytesOf(3.1e9, 2e10)).toBe("3.1 of 20.0 GB");
  expect(bytesOf(3e6, 2e10)).toBe("0.0 of 20.0 GB");
  expect(bytesOf(512, 900)).toBe("512 of 900 B");
  expect([progress(0, 10), progress(42, 100), progress(9999, 10000), progress(5, 5), progress(0, 0)]).toEqual(
    [0, 42, 99, 100, 0],
  );
});

test("a name for a small room is one line, cut between letters, and turns no other text round", () => {
  expect([
    shortName("before\0after\n\n  end"),
    shortName("x".repeat(10_000), 5),
    shortName("🧪🧪🧪🧪", 3),
    shortName("four", 4),
    shortName(className([`\u202e${"abc".repeat(99)}`], 0), 6),
    shortName(""),
  ]).toEqual(["before after end", "xxxx…", "🧪🧪…", "four", "\u2068\u202eabc…\u2069", ""]);
});

test("a share is told with all its digits", () => {
  expect([exactPercent(353 / 1914), exactPercent(0.1), exactPercent(1), exactPercent(0)]).toEqual([
    "18.4430512\u00a0%",
    "10\u00a0%",
    "100\u00a0%",
    "0\u00a0%",
  ]);
});
