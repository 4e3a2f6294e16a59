// The page in a real browser: what a person drags, clicks and shares.
//
//   npm install playwright-core          (in any folder; NODE_PATH or a symlink makes it found)
//   node page.mjs KDM [SCREENSHOTS]      KDM: the program; CHROMIUM: the browser, or /usr/bin/chromium
//
// Ends with 0 where all is as it should be.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(process.cwd() + "/");
const { chromium } = require("playwright-core");
const [program, shots] = process.argv.slice(2);

const server = spawn(program, ["serve", "--model", "fashion-mnist", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "pipe", "ignore"] });
const address = await new Promise((done, failed) => {
  server.stdout.once("data", (text) => done(String(text).trim()));
  server.once("exit", () => failed(new Error("the server ended")));
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

const PHONE = { width: 390, height: 844 }, DESK = { width: 1280, height: 900 };
let passed = 0, failed = 0;

async function check(name, viewport, colorScheme, test) {
  const context = await browser.newContext({ viewport, colorScheme });
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") wrong.push(message.text()); });
  page.on("request", (request) => {
    if (!/^(http:\/\/127\.0\.0\.1|blob:)/.test(request.url())) wrong.push("a request to " + request.url());
  });
  try {
    await test(page);
    assert.deepEqual(wrong, []);
    passed += 1;
    console.log("ok", name);
  } catch (error) {
    failed += 1;
    console.log("FAILED", name, error);
    await shot(page, "failed-" + failed);
  }
  await context.close();
}

// The picture that is shown, once the page has nothing more to draw: its hash.
async function picture(page) {
  await page.waitForSelector('#pictures[aria-busy="false"]', { timeout: 60000 });
  const shown = await page.$eval("#grid", (canvas) => canvas.toDataURL());
  return createHash("sha256").update(shown).digest("hex").slice(0, 12);
}

async function shot(page, name) {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

const drag = (page, id, value) => page.$eval(id, (slider, value) => {
  for (let i = 1; i <= 5; i++) {
    slider.value = String(Number(slider.value) + (value - Number(slider.value)) * i / 5);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
}, value);

try {
  await check("drag, class, mix", DESK, "light", async (page) => {
    await page.goto(address);
    const first = await picture(page);
    await shot(page, "page-1280-light");
    await drag(page, "#seed-range", 40);
    assert.equal(await page.inputValue("#seed"), "40");
    const moved = await picture(page);
    assert.notEqual(moved, first);
    await page.click("#classes >> text=Trouser");
    const trousers = await picture(page);
    assert.notEqual(trousers, moved);
    await page.selectOption("#with", { label: "Bag" });
    await drag(page, "#mix", 0.7);
    assert.notEqual(await picture(page), trousers);
    assert.match(page.url(), /mix=0\.7/);
    await page.click("#reset");
    assert.equal(await picture(page), first);
  });
  await check("a seed that is none is told at its field, and what is drawn stays", DESK, "light", async (page) => {
    await page.goto(address + "#seed=5");
    const before = await picture(page);
    for (const [text, fault] of [["-3", true], ["1.5", true], ["", true], ["9", false]]) {
      await page.fill("#seed", text);
      assert.equal((await page.textContent("#seed-fault")).startsWith("Give a whole number"), fault, text);
      assert.equal(await page.getAttribute("#seed", "aria-invalid"), String(fault));
      if (text === "1.5") await shot(page, "page-fault");
      if (fault) assert.equal(await picture(page), before);
    }
    assert.notEqual(await picture(page), before);
    await page.fill("#seed", "-1");
    await page.press("#seed", "Tab");
    assert.equal(await page.inputValue("#seed"), "9");
    assert.equal(await page.textContent("#seed-fault"), "");
  });
  await check("a page that waits says so", DESK, "light", async (page) => {
    await page.route("**/v1/samples", async (route) => {
      await new Promise((done) => setTimeout(done, 1500));
      await route.continue();
    });
    await page.goto(address);
    await page.waitForFunction(() => document.querySelector("#caption").textContent === "Drawing ...");
    assert.equal(await page.getAttribute("#pictures", "aria-busy"), "true");
    await shot(page, "page-waits");
    await picture(page);
    assert.match(await page.textContent("#caption"), /^Student, one pass/);
  });
  await check("images lie with gaps between them", DESK, "light", async (page) => {
    await page.goto(address + "#count=4");
    await picture(page);
    // Nothing is drawn in the row and the column in the middle.
    const drawn = await page.$eval("#grid", (canvas) => {
      const pen = canvas.getContext("2d"), [x, y] = [canvas.width >> 1, canvas.height >> 1];
      const most = (data) => Math.max(...data.filter((_, i) => i % 4 === 3));
      return [most(pen.getImageData(x, 0, 1, canvas.height).data), most(pen.getImageData(0, y, canvas.width, 1).data)];
    });
    assert.deepEqual(drawn, [0, 0]);
  });
  await check("an eigenvalue is clicked and dragged, and the address brings it back", DESK, "dark", async (page) => {
    await page.goto(address + "#seed=3&count=9");
    const before = await picture(page);
    await page.click('#spectrum .dot[data-name="m1"]');
    await page.click('#principal .dot[data-name="p2"]');
    await drag(page, ".move >> nth=0 >> input", 2);
    await drag(page, ".move >> nth=1 >> input", -1.5);
    const after = await picture(page);
    assert.notEqual(after, before);
    await shot(page, "page-1280-dark");
    const link = page.url();
    assert.match(link, /m1=2/);
    const other = await page.context().newPage();
    await other.goto(link);
    assert.equal(await picture(other), after);
    await other.close();
  });
  await check("a way, one sample, the teacher, by keyboard", DESK, "light", async (page) => {
    await page.goto(address + "#count=4");
    const before = await picture(page);
    await page.click("#way");
    await drag(page, "#t", 1);
    assert.notEqual(await picture(page), before);
    await page.click("#way");
    assert.equal(await picture(page), before);
    const box = await (await page.$("#grid")).boundingBox();
    await page.mouse.click(box.x + 0.75 * box.width, box.y + 0.25 * box.height);
    await picture(page);
    assert.equal(await page.inputValue("#seed"), "1");
    await page.click("#grid");
    assert.equal(await picture(page), before);
    await page.focus('#spectrum .dot[data-name="m1"][tabindex]');
    await page.keyboard.press("Enter");
    await page.waitForSelector(".move");
    await page.click('.move button');
    await page.click("#teacher");
    await page.waitForFunction(() => /passes: the same noise, \d+ ms/.test(document.querySelector("#teacher-caption").textContent), null, { timeout: 60000 });
    await shot(page, "page-teacher");
    const [file] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
    assert.equal(file.suggestedFilename(), "fashion-mnist-0.png");
  });
  for (const scheme of ["light", "dark"]) {
    await check(`a phone, ${scheme}`, PHONE, scheme, async (page) => {
      await page.goto(address + "#m1=1");
      await picture(page);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 390, `${wide} pixels`);
      await shot(page, `page-390-${scheme}`);
    });
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
} finally {
  await browser.close();
  server.kill("SIGTERM");
}
