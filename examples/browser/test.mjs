// The example in a real browser: what onnxruntime-web draws there is what the program draws.
//
//   npm install playwright-core onnxruntime-web      (in any folder; run this one from there)
//   node test.mjs KDM          KDM: the program; CHROMIUM: the browser, or /usr/bin/chromium
//
// Ends with 0 where the images differ by less than 1e-3.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";

const require = createRequire(process.cwd() + "/");
const { chromium } = require("playwright-core");
const [program] = process.argv.slice(2);
const [COUNT, CLASSES, PIXELS, NOISE_STD, TOLERANCE] = [10, 10, 32 * 32, 80, 1e-3];

// A folder as the page's head says.
const folder = mkdtempSync(join(tmpdir(), "kdm-browser-"));
cpSync(join(dirname(fileURLToPath(import.meta.url)), "index.html"), join(folder, "index.html"));
symlinkSync(join(process.cwd(), "node_modules"), join(folder, "node_modules"));
execFileSync(program, ["export", "--model", "fashion-mnist", "--out", join(folder, "student.onnx")]);

const TYPES = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const files = createServer((request, response) => {
  const path = normalize(new URL(request.url, "http://x").pathname);
  const file = path === "/" ? "/index.html" : path;
  try {
    const content = readFileSync(join(folder, file));
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
    response.end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => files.listen(0, "127.0.0.1", done));

const server = spawn(program, ["serve", "--model", "fashion-mnist", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "ignore"] });
const address = await new Promise((done, failed) => {
  server.stdout.once("data", (text) => done(String(text).trim()));
  server.once("exit", () => failed(new Error("the server ended")));
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

try {
  // Noise by Box and Muller, from a linear congruential generator.
  let state = 1;
  const uniform = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const noise = Array.from({ length: COUNT }, () => Array.from({ length: PIXELS }, () => Math.fround(NOISE_STD * normal())));
  const classes = Array.from({ length: COUNT }, (_, i) => i % CLASSES);
  const answer = await fetch(address + "v1/samples", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ noise, classes, format: "json" }),
  });
  const expected = (await answer.json()).samples.flat(3);

  const page = await browser.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => {
    if (!/^(http:\/\/127\.0\.0\.1|blob:)/.test(request.url())) wrong.push("a request to " + request.url());
  });
  await page.goto(`http://127.0.0.1:${files.address().port}/`);
  await page.waitForFunction(() => document.querySelector("#told").textContent.includes("images in"), null, { timeout: 60000 });
  const found = await page.evaluate(async ([noise, classes, width]) => {
    const labels = new Float32Array(classes.length * width);
    classes.forEach((label, i) => (labels[i * width + label] = 1));
    return Array.from(await window.draw(Float32Array.from(noise.flat()), labels));
  }, [noise, classes, CLASSES]);
  assert.equal(found.length, expected.length);
  const off = found.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i])), 0);
  assert.ok(off < TOLERANCE, `the images differ by ${off}`);

  // Another class, and the picture changes.
  const picture = () => page.evaluate(() => document.querySelector("#grid").toDataURL());
  const before = await picture();
  await page.selectOption("#class", "9");
  await page.waitForFunction((before) => document.querySelector("#grid").toDataURL() !== before, before, { timeout: 60000 });
  assert.deepEqual(wrong, []);
  console.log(`ok: ${COUNT} images in the browser differ by ${off.toExponential(1)} at most`);
  console.log("2 passed, 0 failed");
} finally {
  await browser.close();
  server.kill();
  files.close();
  rmSync(folder, { recursive: true });
}
