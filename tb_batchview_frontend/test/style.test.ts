import { expect, test } from "vitest";
import { channels } from "../src/charts/colour.js";
import { STYLE } from "../src/style.js";

/** The colour variables of one theme, as they stand in the style sheet. */
function coloursOf(selector: string): Record<string, string> {
  const block = STYLE.slice(STYLE.indexOf(`${selector} {`)).split("}")[0] ?? "";
  return Object.fromEntries(
    [...block.matchAll(/--([\w-]+): (#[0-9a-f]+);/g)].map(([, name, hex]) => [
      name,
      hex?.length === 4 ? hex.replace(/[0-9a-f]/g, "$&$&") : hex,
    ]),
  );
}

/** Contrast of two colours as WCAG 2 defines it. */
function contrast(one: string, other: string): number {
  const [light, dark] = [one, other]
    .map((colour) => {
      const [red, green, blue] = channels(colour).map((value) => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      }) as [number, number, number];
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    })
    .sort((a, b) => b - a) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

const TEXTS: [string, string[]][] = [
  ["text", ["ground", "raised", "hover", "accent-soft", "accent-bar"]],
  ["quiet", ["ground", "raised", "hover"]],
  ["link", ["ground", "raised", "hover", "accent-soft"]],
  ["accent-text", ["ground", "accent-soft"]],
  ["bad", ["ground", "hover", "accent-soft", "bad-soft"]],
  ["good", ["ground", "hover", "accent-soft", "good-soft"]],
  ["warn-text", ["warn-soft"]],
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
