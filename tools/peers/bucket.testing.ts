// A Gantry whose archive is in a bucket, and everything that a client can see of an archive.
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { S3Server } from '../servers/index.ts';
import { partsOf } from './dicomweb.testing.ts';
import type { GantryServer } from './server.ts';

export function onBucket(s3: S3Server, bucket: string): Record<string, string> {
  const secrets = join(s3.dataDir, '../secrets'); // goes with the server
  mkdirSync(secrets, { recursive: true });
  writeFileSync(join(secrets, 'access'), s3.accessKey);
  writeFileSync(join(secrets, 'secret'), s3.secretKey);
  return {
    GANTRY_STORAGE_S3_ENDPOINT: s3.endpoint,
    GANTRY_STORAGE_S3_REGION: s3.region,
    GANTRY_STORAGE_S3_BUCKET: bucket,
    GANTRY_STORAGE_S3_ACCESS_KEY_FILE: join(secrets, 'access'),
    GANTRY_STORAGE_S3_SECRET_KEY_FILE: join(secrets, 'secret'),
  };
}

/** As a person or a later release would have configured it: a file of data/state. */
export function configure(dataDir: string, key: string, text: string): void {
  const folder = join(dataDir, 'state/kv/main');
  mkdirSync(folder, { recursive: true });
  const fact = { format: 1, tenant: 'main', key, revision: 1_700_000_000_000_000, text };
  writeFileSync(join(folder, `${key.replaceAll('/', '%2f')}.json`), `${JSON.stringify(fact)}\n`);
}

export async function ask<T = unknown>(server: GantryServer, path: string, init: RequestInit = {}): Promise<T> {
  const answer = await fetch(`${server.origin}${path}`, {
    ...init,
    headers: { Accept: 'application/json, application/dicom+json, application/x-ndjson', ...init.headers },
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${init.method ?? 'GET'} ${path}: ${answer.status} ${text}`);
  if (text === '') return undefined as T;
  return (answer.headers.get('content-type')?.includes('ndjson') ? lastLine(text) : JSON.parse(text)) as T;
}
const lastLine = (text: string): unknown => JSON.parse(text.trimEnd().split('\n').at(-1)!);

export const tell = (body: unknown): RequestInit => ({
  method: 'POST',
  body: JSON.stringify(body),
  headers: { 'Content-Type': 'application/json' },
});

/** Every study, series and instance as QIDO tells them, the bytes of each instance, the trash, and what is in conflict. */
export async function everything(server: GantryServer): Promise<Record<string, unknown>> {
  type Row = Record<string, { Value?: unknown[] }>;
  const sorted = (rows: Row[] | undefined): string[] =>
    (rows ?? []).map((row) => JSON.stringify(row).replaceAll(server.origin, '')).sort();
  const studies = await ask<Row[]>(server, '/dicom-web/studies?includefield=all');
  const series = await ask<Row[]>(server, '/dicom-web/series?includefield=all');
  const instances = await ask<Row[]>(server, '/dicom-web/instances?includefield=all');
  const bytes: Record<string, string[]> = {};
  for (const study of studies) {
    const uid = String(study['0020000D']!.Value![0]);
    const answer = await fetch(`${server.dicomWeb}/studies/${uid}`, {
      headers: { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
    });
    if (!answer.ok) throw new Error(`study: ${answer.status} ${await answer.text()}`);
    const body = Buffer.from(await answer.arrayBuffer());
    bytes[uid] = partsOf(answer.headers.get('content-type')!, body)
      .map((part) => createHash('sha256').update(part.bytes).digest('hex'))
      .sort();
  }
  const { studies: trash } = await ask<{ studies: { studyInstanceUid: string }[] }>(server, '/api/v1/trash');
  const { conflicts } = await ask<{ conflicts: unknown[] }>(server, '/api/v1/conflicts');
  return {
    studies: sorted(studies),
    series: sorted(series),
    instances: sorted(instances),
    bytes,
    trash: trash.map((row) => JSON.stringify(row)).sort(),
    conflicts,
  };
}

/** What `verify` finds, every digest read. */
export async function findings(server: GantryServer): Promise<string[]> {
  const answer = await fetch(`${server.origin}/api/v1/verify`, tell({}));
  const lines = (await answer.text()).trimEnd().split('\n');
  const kinds = lines.map((line) => (JSON.parse(line) as { kind: string }).kind);
  if (kinds.at(-1) !== 'ok-summary') return [...kinds, 'no summary'];
  return kinds.filter((kind) => kind !== 'progress' && kind !== 'ok-summary');
}
