import { expect, test } from "vitest";
import { STYLE } from "../src/style.js";
import { coloursOf, contrast } from "./colours.js";

const TEXTS: [string, string[]][] = [
  ["text", ["ground", "raised", "hover", "accent-soft", "accent-bar"]],
  ["quiet", ["ground", "raised", "hover", "accent-soft"]],
  ["link", ["ground", "raised", "hover", "accent-soft", "warn-soft", "bad-soft"]],
  ["accent-text", ["ground", "accent-soft"]],
  ["bad", ["ground", "hover", "accent-soft", "bad-soft"]],
  ["good", ["ground", "hover", "accent-soft", "good-soft"]],
  ["warn-text", ["warn-soft"]],
  ["ground", ["text"]],
  ["run-a", ["ground", "raised"]],
  ["run-b", ["ground", "raised"]],
];
/** What is no text and has to be seen beside its neighbour: 3 is enough. */
const MARKS: [string, string[]][] = [
  ["focus", ["ground", "raised"]],
  ["correct-confident", ["ground", "raised"]],
  ["wrong-confident", ["ground", "raised"]],
  ["accent", ["ground"]],
];

test.each([":root", ":root.dark"])("colours of %s can be told apart (WCAG AA)", (selector) => {
  const colours = coloursOf(selector);
  const weak = [TEXTS, MARKS].flatMap((pairs, kind) =>
    pairs.flatMap(([ink, grounds]) =>
      grounds
        .map((ground) => [ink, ground, contrast(colours[ink] ?? "", colours[ground] ?? "")] as const)
        .filter(([, , ratio]) => !(ratio >= (kind === 0 ? 4.5 : 3))),
    ),
  );
  expect(weak).toEqual([]);
});

test("motion stops for those who ask for less of it", () => {
  const outside = STYLE.replace(/@media \(prefers-reduced-motion: no-preference\) \{[^}]*\}[^}]*\}/g, "");
  expect(STYLE).toContain("prefers-reduced-motion: no-preference");
  expect(outside).not.toMatch(/transition|animation/);
});
