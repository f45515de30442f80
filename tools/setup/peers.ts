// What the tests need from outside this repository: other people's programs, and real DICOM files.
// With CI=true a missing one fails the test. Elsewhere the test is skipped and says what is missing:
//   test('…', { skip: without('storescu') }, () => { const storescu = requirePeer('storescu'); … })
import { hash } from 'node:crypto';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const CHECKOUT = resolve(import.meta.dirname, '../..');
/** Debian keeps servers (nginx, Orthanc) here, which is not on everyone's PATH. */
const SERVER_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

const inCi = () => process.env.CI === 'true';

/** The program's path, or nothing where it is not installed. */
export function findPeer(program: string): string | undefined {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), ...SERVER_FOLDERS]) {
    const path = join(folder, program);
    if (folder !== '' && isExecutable(path)) return path;
  }
  return undefined;
}

/** The program's path; throws where it is not installed. */
export function requirePeer(program: string): string {
  const path = findPeer(program);
  if (path === undefined) throw new Error(`${program} is not installed: run tools/setup/peers.sh test`);
  return path;
}

/** A Python that can import pynetdicom, pydicom and dicomweb_client: `make test` makes it and names it in GANTRY_PYTHON. */
export function pythonWithPynetdicom(): string {
  const path = findPython();
  if (path === undefined)
    throw new Error('no Python with pynetdicom: run tools/setup/peers.sh test, or set GANTRY_PYTHON');
  return path;
}

/** For a test's `skip`: false where all of them are there, else what is missing. Under CI=true never a reason to skip. */
export function without(...peers: string[]): string | false {
  if (inCi()) return false;
  const missing = peers.filter((peer) => (peer === 'pynetdicom' ? findPython() : findPeer(peer)) === undefined);
  return missing.length === 0 ? false : `not installed: ${missing.join(', ')} (tools/setup/peers.sh test)`;
}

function findPython(): string | undefined {
  const named = process.env.GANTRY_PYTHON;
  if (named !== undefined && isExecutable(named)) return named;
  // As tools/setup/lib.sh and peers.sh name it, so that a single test runs without `make`.
  const cache = process.env.XDG_CACHE_HOME ?? join(process.env.HOME ?? '', '.cache');
  const made = join(cache, 'gantry', `python-${requirementsDigest()}`, 'bin/python');
  return isExecutable(made) ? made : undefined;
}

function requirementsDigest(): string {
  return hash('sha256', readFileSync(join(import.meta.dirname, 'requirements.txt'))).slice(0, 12);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // Not there, or not ours to run: both mean that we look on.
    return false;
  }
}

/** One row of open.tsv: what is known of a real DICOM file. `path` is absolute. */
export interface OpenDataRow {
  path: string;
  name: string;
  size: number;
  sha256: string;
  sopClassUid: string;
  modality: string;
  transferSyntaxUid: string;
  studyInstanceUid: string;
  seriesInstanceUid: string;
  sopInstanceUid: string;
  /** What an archive should do with it: `storable`, or the kind of refusal that open.tsv names. */
  class: string;
}

export interface OpenData {
  /** The folder; rows are relative to it in the table and absolute here. */
  dir: string;
  rows: OpenDataRow[];
  /** `open`: the 347 real files. `samples`: the folder is absent, these are the repo's own samples. */
  from: 'open' | 'samples';
}

/**
 * Real DICOM files from GANTRY_OPEN_DATA (../shared/data/open beside the checkout by default). Where the folder is absent:
 * the repo's samples, with a line that says so; under CI=true an error.
 */
export async function openData(): Promise<OpenData> {
  const dir = resolve(process.env.GANTRY_OPEN_DATA ?? join(CHECKOUT, '../shared/data/open'));
  const table = `${dir}.tsv`;
  if (existsSync(dir) && existsSync(table)) return { dir, rows: readTable(table, dir), from: 'open' };
  if (inCi()) throw new Error(`the open test data is not at ${dir} (GANTRY_OPEN_DATA), and CI=true: it must be`);
  process.stderr.write(
    `No open test data at ${dir}: using the repo's samples instead (GANTRY_OPEN_DATA names the folder)\n`,
  );
  // Loaded when needed: the samples are synthesised, which most tests never ask for.
  const { sampleRows, samplesDir } = (await import(
    pathToFileURL(join(CHECKOUT, 'tools/demo/samples.ts')).href
  )) as typeof import('../demo/samples.ts');
  return { dir: await samplesDir(), rows: await sampleRows(), from: 'samples' };
}

function readTable(table: string, dir: string): OpenDataRow[] {
  const [head, ...lines] = readFileSync(table, 'utf8').split('\n');
  const columns = new Map(head!.split('\t').map((name, index) => [name, index]));
  return lines
    .filter((line) => line !== '')
    .map((line) => {
      const cells = line.split('\t');
      const cell = (column: string) => {
        const index = columns.get(column);
        if (index === undefined) throw new Error(`${table} has no column ${column}`);
        return cells[index] ?? '';
      };
      return {
        path: join(dir, cell('path')),
        name: cell('path'),
        size: Number(cell('size')),
        sha256: cell('sha256'),
        sopClassUid: cell('sopclass'),
        modality: cell('modality'),
        transferSyntaxUid: cell('tsuid'),
        studyInstanceUid: cell('studyuid'),
        seriesInstanceUid: cell('seriesuid'),
        sopInstanceUid: cell('sopuid'),
        class: cell('class'),
      };
    });
}
