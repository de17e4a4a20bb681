// The colours of the style sheet, and how well they can be told apart.

import { channels } from "../src/charts/colour.js";
import { STYLE } from "../src/style.js";

/** The colour variables of one theme, as they stand in the style sheet. */
export function coloursOf(selector: string): Record<string, string> {
  const block = STYLE.slice(STYLE.indexOf(`${selector} {`)).split("}")[0] ?? "";
  return Object.fromEntries(
    [...block.matchAll(/--([\w-]+): (#[0-9a-f]+);/g)].map(([, name, hex]) => [
      name,
      hex?.length === 4 ? hex.replace(/[0-9a-f]/g, "$&$&") : hex,
    ]),
  );
}

/** Contrast of two colours as WCAG 2 defines it. */
export function contrast(one: string, other: string): number {
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
