import { readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [
    {
      // As the bundler does it: a style sheet is imported as its text.
      name: "css-as-text",
      enforce: "pre",
      load: (id) =>
        id.endsWith(".css")
          ? { code: `export default ${JSON.stringify(readFileSync(id, "utf8"))}`, moduleType: "js" }
          : null,
    },
  ],
  test: { environment: "happy-dom", include: ["test/**/*.test.ts"] },
});
