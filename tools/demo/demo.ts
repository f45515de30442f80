// `make demo`: the real server on the embedded default, the sample studies through its DICOM door, and where to look. Ctrl-C ends it.
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DataSet } from '#dicom/dataset.ts';
import { readPart10Prefix } from '#dicom/part10.ts';
import { skim } from '#dicom/skim.ts';
import { Tag } from '#dicom/tags.ts';
import { connect } from '#dimse/requestor.ts';
import { store } from '#dimse/scu.ts';
import { sampleFiles } from './samples.ts';

const httpPort = process.env.GANTRY_HTTP_PORT ?? '8080';
const dimsePort = process.env.GANTRY_DIMSE_PORT ?? '11112';
const aeTitle = process.env.GANTRY_AE_TITLE ?? 'GANTRY';
const origin = `http://localhost:${httpPort}`;
const READY_MS = 60_000;
const FOUND_MS = 30_000;

interface Sample {
  file: string;
  sopClassUid: string;
  sopInstanceUid: string;
  studyInstanceUid: string;
  transferSyntaxUid: string;
  modality: string;
  dataSet: Buffer;
}

function readSample(file: string): Sample {
  const bytes = readFileSync(file);
  const prefix = readPart10Prefix(bytes, true);
  if (prefix.needMoreBytes !== undefined) throw new Error(`${file} is no Part 10 file`);
  const dataSet = bytes.subarray(prefix.dataSetOffset);
  const header = new DataSet(skim(dataSet, prefix.transferSyntaxUid));
  return {
    file,
    sopClassUid: header.string(Tag.SOPClassUID)!,
    sopInstanceUid: header.string(Tag.SOPInstanceUID)!,
    studyInstanceUid: header.string(Tag.StudyInstanceUID)!,
    transferSyntaxUid: prefix.transferSyntaxUid,
    modality: header.string(Tag.Modality) ?? '?',
    dataSet,
  };
}

/** The server says on /readyz when it can work; a start that failed has said why on its own output. */
async function untilReady(server: ChildProcess): Promise<void> {
  for (const until = Date.now() + READY_MS; Date.now() < until; await pause(100)) {
    if (server.exitCode !== null || server.signalCode !== null)
      throw new Error('the server stopped: it says above why');
    const answer = await fetch(`${origin}/readyz`).catch(() => undefined); // not listening yet
    if (answer?.ok) return;
  }
  throw new Error(`the server was not ready after ${READY_MS / 1000} s`);
}

async function send(samples: Sample[]): Promise<void> {
  const contexts = [
    ...Map.groupBy(samples, (sample) => `${sample.sopClassUid} ${sample.transferSyntaxUid}`).values(),
  ].map(([one]) => ({
    abstractSyntax: one!.sopClassUid,
    transferSyntaxes: [one!.transferSyntaxUid],
  }));
  const association = await connect({
    host: '127.0.0.1',
    port: Number(dimsePort),
    callingAeTitle: 'DEMO',
    calledAeTitle: aeTitle,
    contexts,
  });
  for (const sample of samples) {
    const context = association.findContext(sample.sopClassUid, sample.transferSyntaxUid);
    if (context === undefined) throw new Error(`${sample.file}: the server does not take its class or transfer syntax`);
    const { status } = await store(association, {
      contextId: context.id,
      sopClassUid: sample.sopClassUid,
      sopInstanceUid: sample.sopInstanceUid,
      data: sample.dataSet,
    });
    if (status !== 0)
      throw new Error(`${sample.file}: C-STORE was answered with ${status.toString(16).padStart(4, '0')}`);
  }
  await association.release();
}

type Row = Record<string, { vr: string; Value?: unknown[] }>;
const text = (row: Row, tag: string): string =>
  (row[tag]?.Value ?? [])
    .map((value) =>
      typeof value === 'object' && value !== null
        ? ((value as { Alphabetic?: string }).Alphabetic ?? '')
        : String(value),
    )
    .join(' ');

/** Every study that was sent is found with all its instances. */
async function untilFound(samples: Sample[]): Promise<Row[]> {
  const expected = Map.groupBy(samples, (sample) => sample.studyInstanceUid);
  for (const until = Date.now() + FOUND_MS; ; await pause(50)) {
    const rows = (await (
      await fetch(`${origin}/dicom-web/studies?limit=1000`, { headers: { accept: 'application/dicom+json' } })
    ).json()) as Row[];
    const missing = [...expected].filter(
      ([uid, files]) =>
        Number(text(rows.find((row) => text(row, '0020000D') === uid) ?? {}, '00201208') || 0) < files.length,
    );
    if (missing.length === 0) return rows.filter((row) => expected.has(text(row, '0020000D')));
    if (Date.now() > until)
      throw new Error(`${missing.length} studies were sent and are not found after ${FOUND_MS / 1000} s`);
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const server = spawn(process.execPath, [join(import.meta.dirname, '../../services/main.ts'), 'all'], {
  stdio: ['ignore', 'inherit', 'inherit'],
  env: { GANTRY_PLATFORM_LOG_LEVEL: 'warn', ...process.env },
});
// Ctrl-C reaches the whole process group; a TERM to this process alone is handed on.
process.on('SIGTERM', () => server.kill('SIGTERM'));
process.on('SIGINT', () => undefined);
const ended = new Promise<number>((resolve) => server.once('exit', (code) => resolve(code ?? 1)));

try {
  await untilReady(server);
  const samples = (await sampleFiles()).map(readSample);
  await send(samples);
  const rows = await untilFound(samples);
  const ct = samples.find((sample) => sample.modality === 'CT')!;
  console.log(
    `\nSent ${samples.length} sample instances to ${aeTitle} by C-STORE; the archive has them as ${rows.length} studies:\n`,
  );
  for (const row of rows) {
    console.log(
      `  ${text(row, '00080020').padEnd(9)} ${text(row, '00080061').padEnd(7)} ${text(row, '00201208').padStart(3)} instances   ${text(row, '00100010').padEnd(28)} ${text(row, '00081030')}`,
    );
  }
  const first = rows.find((row) => text(row, '0020000D') === ct.studyInstanceUid)!;
  console.log(`\nOne QIDO-RS answer, GET ${origin}/dicom-web/studies?StudyInstanceUID=${ct.studyInstanceUid}\n`);
  console.log(
    JSON.stringify(first, null, 1)
      .replace(/\n\s+/g, ' ')
      .replace(/(.{1,116})(?:, (?=")|$)/g, '  $1,\n')
      .trimEnd()
      .replace(/,$/, ''),
  );
  console.log(`
  See the CT         ${origin}/viewer/viewer?StudyInstanceUIDs=${ct.studyInstanceUid}
  Everything else    ${origin}/
  Point a modality   AE title ${aeTitle}, host 127.0.0.1, port ${dimsePort}   (echoscu -aec ${aeTitle} 127.0.0.1 ${dimsePort})
  Point a viewer     ${origin}/dicom-web
  Commands           npx gantry --help

Running. Ctrl-C ends it; the data stays in ${process.env.GANTRY_DATA_DIR ?? './data'} and the next start finds it.`);
} catch (error) {
  console.error(`make demo: ${error instanceof Error ? error.message : error}`);
  server.kill('SIGTERM');
  await ended;
  process.exit(1);
}
process.exit(await ended);
