/// <reference lib="dom" />
// A person opens the sample CT in a browser: OHIF under /viewer, in Debian's Chromium, and there is a picture.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';
import { cacheDir } from '#platform/paths.ts';
import { sampleFiles } from '../demo/samples.ts';
import { requirePeer, without } from '../setup/peers.ts';
import { readTestFile, type TestFile } from './files.ts';
import { type GantryServer, startServer } from './server.ts';

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-quic',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--enable-unsafe-swiftshader',
];
const OHIF = join(cacheDir(), 'ohif-3.13.2', 'index.html');
const PICTURE_MS = 60_000;

const missing =
  without('chromium') ||
  (!existsSync(OHIF) && process.env.CI !== 'true' ? 'the viewer is not set up: make viewer' : false);

describe('the viewer', { skip: missing, timeout: 5 * 60_000 }, () => {
  let server: GantryServer;
  let browser: Browser;
  let page: Page;
  let ct: TestFile;
  const foreign: string[] = [];

  before(async () => {
    server = await startServer();
    const row = {
      name: '',
      size: 0,
      sha256: '',
      sopClassUid: '',
      modality: '',
      transferSyntaxUid: '',
      studyInstanceUid: '',
      seriesInstanceUid: '',
      sopInstanceUid: '',
      class: 'storable',
    };
    const files = (await sampleFiles())
      .filter((path) => path.includes('/ct/'))
      .map((path) => readTestFile({ ...row, path }));
    ct = files[0]!;
    for (const file of files) {
      const answer = await fetch(`${server.origin}/api/v1/instances`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/dicom' },
        body: readFileSync(file.row.path),
      });
      assert.equal(((await answer.json()) as { status: number }).status, 0);
    }
    browser = await chromium.launch({ executablePath: requirePeer('chromium'), args: FLAGS });
    page = await browser.newPage({ viewport: { width: 1200, height: 800 } });
    page.on('request', (request) => {
      if (!request.url().startsWith(server.origin) && !/^(data|blob):/.test(request.url()))
        foreign.push(new URL(request.url()).origin);
    });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  test('the study list shows the study', async () => {
    await page.goto(`${server.origin}/viewer`);
    await page.getByText('CT Thorax').first().waitFor({ timeout: PICTURE_MS });
  });

  test('the CT is a picture: bright and dark pixels, and isolated enough for volumes', async () => {
    await page.goto(`${server.origin}/viewer/viewer?StudyInstanceUIDs=${ct.studyInstanceUid}`);
    // Bone, soft tissue and air: a black canvas, or a broken one, has not all three.
    await page.waitForFunction(
      () => {
        const canvas = [...document.querySelectorAll('canvas')].sort(
          (a, b) => b.width * b.height - a.width * a.height,
        )[0];
        if (!canvas || canvas.width < 200) return false;
        const copy = document.createElement('canvas');
        copy.width = canvas.width;
        copy.height = canvas.height;
        const context = copy.getContext('2d')!;
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, 0, copy.width, copy.height);
        let [dark, middle, bright] = [0, 0, 0];
        for (let i = 0; i < data.length; i += 4) {
          if (data[i]! < 20) dark++;
          else if (data[i]! > 220) bright++;
          else if (data[i]! > 80 && data[i]! < 180) middle++;
        }
        const all = data.length / 4;
        return dark > all * 0.1 && middle > all * 0.1 && bright > all * 0.005;
      },
      undefined,
      { timeout: PICTURE_MS },
    );
    assert.equal(await page.evaluate(() => window.crossOriginIsolated), true);
  });

  test('nothing was asked of anybody but this archive', () => {
    assert.deepEqual(foreign, []);
  });
});
