// Opens the report's page in Chromium at a phone's and a desktop's width, light and dark: `report_page.mjs PAGE PICTURES`.
// Exits with what is wrong; no request may leave the page, every plot must be drawn, nothing may be wider than
// it, and axe may find no serious fault.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const CACHE = path.resolve(import.meta.dirname, '../../.cache/vscode');
const { chromium } = createRequire(path.join(CACHE, 'driver/package.json'))('playwright-core');
const FETCHED = path.join(CACHE, 'chromium/chromium');
const SIZES = { phone: { width: 375, height: 812 }, desktop: { width: 1280, height: 900 } };
const PLOTS = 7;
const LEAST_PX = 10; // of words within a plot, as they are shown
const MOST_PX = 100; // of a row in a table
const LEAST_CONTRAST = 4.5; // of words, as WCAG's level AA has it
const GRAVE = ['serious', 'critical'];
const [file, pictures] = process.argv.slice(2);
const address = pathToFileURL(file).href;
const axe = readFileSync(path.join(CACHE, 'driver/node_modules/axe-core/axe.min.js'), 'utf8');

/** Runs in the page: what there is of plots and words, as drawn. */
function measured() {
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((one) => one / 255);
    const [r, g, b] = parts.map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = document.createElement('div');
  ground.style.color = 'Canvas';
  document.body.append(ground);
  const paper = light(getComputedStyle(ground).color);
  ground.remove();
  const ink = light(getComputedStyle(document.body).color);
  const plots = [...document.querySelectorAll('svg')].map((plot) => {
    const { width, height, left, right } = plot.getBoundingClientRect();
    const shapes = [...plot.querySelectorAll('rect, circle, polyline.l')].filter((one) => {
      const box = one.getBoundingClientRect();
      const style = getComputedStyle(one);
      return box.width + box.height > 0 && (style.fill !== 'none' || style.stroke !== 'none');
    });
    const words = [...plot.querySelectorAll('text')].map((one) => one.getBoundingClientRect());
    return {
      title: plot.getAttribute('aria-label'), width, height, left, right, shapes: shapes.length,
      leastPx: Math.min(...[...plot.querySelectorAll('text')].map((one) => one.getBoundingClientRect().height)),
      outside: words.filter((box) => box.left < left - 1 || box.right > right + 1).length,
      table: plot.closest('figure').querySelectorAll('table tr').length,
    };
  });
  const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  return {
    plots, contrast,
    tallest: Math.max(...[...document.querySelectorAll('tr')].map((one) => one.getBoundingClientRect().height)),
    wide: document.scrollingElement.scrollWidth, room: window.innerWidth, lang: document.documentElement.lang,
  };
}

const browser = await chromium.launch({
  executablePath: existsSync(FETCHED) ? FETCHED : 'chromium', headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
});
try {
  for (const [name, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ['light', 'dark']) {
      const context = await browser.newContext({ viewport, colorScheme });
      const page = await context.newPage();
      const asked = [];
      const said = [];
      page.on('request', (request) => asked.push(request.url()));
      page.on('console', (message) => said.push(message.text()));
      await page.goto(address);
      const found = await page.evaluate(measured);
      const at = `${name}, ${colorScheme}`;
      assert.deepEqual(asked, [address], `${at}: a request leaves the page`);
      assert.deepEqual(said, [], `${at}: the browser complains`);
      assert.equal(found.lang, 'en');
      assert.ok(found.wide <= found.room, `${at}: ${found.wide} px in ${found.room}`);
      assert.ok(found.contrast >= LEAST_CONTRAST, `${at}: contrast ${found.contrast}`);
      assert.ok(found.tallest <= MOST_PX, `${at}: a row of ${found.tallest} px`);
      assert.equal(found.plots.length, PLOTS, at);
      for (const plot of found.plots) {
        const which = `${at}: ${plot.title}`;
        assert.ok(plot.title && plot.shapes > 0 && plot.width > 250 && plot.height > 40, `${which}: not drawn`);
        assert.ok(plot.left >= 0 && plot.right <= found.room, `${which}: beyond the page`);
        assert.equal(plot.outside, 0, `${which}: words beyond the plot`);
        assert.ok(plot.leastPx >= LEAST_PX, `${which}: words of ${plot.leastPx} px`);
        assert.ok(plot.table > 1, `${which}: no table beside it`);
      }
      const { violations, passes } = await page.evaluate(`${axe}; axe.run()`);
      assert.ok(passes.length > 10, `${at}: axe has looked at little`);
      const faults = violations.filter((one) => GRAVE.includes(one.impact));
      assert.deepEqual(faults.map((one) => `${one.id}: ${one.help}`), [], at);
      const picture = path.join(pictures, `report-${name}-${colorScheme}`);
      await page.screenshot({ path: `${picture}.png`, fullPage: true });
      await page.screenshot({ path: `${picture}-top.png` });
      await context.close();
    }
  }
} finally {
  await browser.close();
}
