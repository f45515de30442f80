// Where the sample studies lie: synthesised into the cache once (they are computed, so the repo need not hold them),
// beside a few small real files of pydicom's (MIT) that are in the repo: RLE, JPEG, a structured report.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import dicomParser from 'dicom-parser';
import type { OpenDataRow } from '../setup/peers.ts';
import { synthesise } from './synthesise.ts';

const REAL = join(import.meta.dirname, 'samples');
const GENERATOR = ['part10.ts', 'phantom.ts', 'synthesise.ts', 'samples.ts'];

/** The folder with all samples; the CT's slices are under `ct/`. */
export async function samplesDir(): Promise<string> {
  const cache = join(
    process.env.XDG_CACHE_HOME ?? (process.env.HOME ? join(process.env.HOME, '.cache') : tmpdir()),
    'gantry',
  );
  const dir = join(cache, `samples-${generatorDigest()}`);
  if (existsSync(dir)) return dir;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, '.samples-'));
  try {
    synthesise(work);
    cpSync(REAL, work, { recursive: true, filter: (path) => !path.endsWith('.md') });
    renameSync(work, dir);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    // Another process was quicker: its folder holds the same bytes.
    if (!existsSync(dir)) throw error;
  }
  return dir;
}

/** Every sample file, in a stable order: the CT's slices from the first to the last come first. */
export async function sampleFiles(): Promise<string[]> {
  const dir = await samplesDir();
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.dcm'))
    .sort()
    .map((name) => join(dir, name));
}

/** The samples as rows of the same table that describes the open test data. */
export async function sampleRows(): Promise<OpenDataRow[]> {
  const dir = await samplesDir();
  return (await sampleFiles()).map((path) => {
    const bytes = readFileSync(path);
    const dataSet = dicomParser.parseDicom(bytes, { untilTag: 'x7fe00010' });
    const value = (tag: string) => dataSet.string(tag) ?? '';
    return {
      path,
      name: relative(dir, path),
      size: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
      sopClassUid: value('x00080016'),
      modality: value('x00080060'),
      transferSyntaxUid: value('x00020010'),
      studyInstanceUid: value('x0020000d'),
      seriesInstanceUid: value('x0020000e'),
      sopInstanceUid: value('x00080018'),
      class: 'storable',
    };
  });
}

/** The samples change with the code that makes them: then they get a new folder. */
function generatorDigest(): string {
  const digest = createHash('sha256');
  for (const name of GENERATOR) digest.update(readFileSync(join(import.meta.dirname, name)));
  return digest.digest('hex').slice(0, 12);
}
