// QIDO-RS and WADO-RS as the commands use them.
import { createHash } from 'node:crypto';
import { type Client, refusalOf, wholeText } from './client.ts';
import { CommandFailure, EXIT } from './command.ts';
import { parseAnswer } from './upload.ts';

export type Row = Record<string, { vr: string; Value?: unknown[] } | undefined>;

/** An attribute as people read it: values with a backslash between them, as DICOM has it. */
export function textOf(row: Row, tag: string): string {
  return (row[tag]?.Value ?? [])
    .map((value) => {
      if (value === null || value === undefined) return '';
      if (typeof value !== 'object') return String(value);
      const name = value as { Alphabetic?: string; Ideographic?: string; Phonetic?: string };
      return name.Alphabetic ?? name.Ideographic ?? name.Phonetic ?? '';
    })
    .join('\\');
}

export interface Page {
  rows: Row[];
  /** Texts of Warning headers. */
  warnings: string[];
  cursor: string | undefined;
}

export async function searchPage(
  client: Client,
  path: string,
  query: URLSearchParams,
  signal: AbortSignal,
): Promise<Page> {
  const answer = await client.request('GET', `/dicom-web/${path}?${query}`, {
    headers: { accept: 'application/dicom+json' },
    signal,
  });
  if (answer.status >= 400) throw await refusalOf(answer);
  const text = await wholeText(answer);
  const warnings = [...String(answer.headers.warning ?? '').matchAll(/299 \S+ "([^"]*)"/g)].map((match) => match[1]!);
  const cursor = answer.headers['x-next-cursor'];
  return {
    rows: answer.status === 204 || text === '' ? [] : parseAnswer<Row[]>(text),
    warnings,
    cursor: typeof cursor === 'string' && cursor !== '' ? cursor : undefined,
  };
}

const PAGE = 1000;

/** Every match, page by page (keyset cursor: what arrives meanwhile shifts nothing). */
export async function* searchAll(
  client: Client,
  path: string,
  query: URLSearchParams,
  signal: AbortSignal,
): AsyncGenerator<Row> {
  let cursor: string | undefined;
  do {
    const page = new URLSearchParams(query);
    page.set('limit', String(PAGE));
    if (cursor !== undefined) page.set('cursor', cursor);
    const found = await searchPage(client, path, page, signal);
    yield* found.rows;
    cursor = found.cursor;
  } while (cursor !== undefined);
}

export interface Level {
  study: string;
  series?: string;
  instance?: string;
}
export interface Target {
  study: string;
  series: string;
  instance: string;
}

export async function* instancesOf(client: Client, level: Level, signal: AbortSignal): AsyncGenerator<Target> {
  const query = new URLSearchParams(level.instance === undefined ? {} : { SOPInstanceUID: level.instance });
  const series = level.series === undefined ? '' : `/series/${encodeURIComponent(level.series)}`;
  const path = `studies/${encodeURIComponent(level.study)}${series}/instances`;
  let found = false;
  query.set('includefield', '0020000E');
  for await (const row of searchAll(client, path, query, signal)) {
    const target = {
      study: level.study,
      series: textOf(row, '0020000E') || (level.series ?? ''),
      instance: textOf(row, '00080018'),
    };
    found = true;
    yield target;
  }
  if (!found)
    throw new CommandFailure(EXIT.failed, 'not-found', 'this study, series or instance is not in the archive');
}

export async function retrieve(client: Client, { study, series, instance }: Target, signal: AbortSignal) {
  const path = [study, series, instance].map(encodeURIComponent);
  const answer = await client.request(
    'GET',
    `/dicom-web/studies/${path[0]}/series/${path[1]}/instances/${path[2]}`,
    { headers: { accept: 'application/dicom; transfer-syntax=*' }, signal }, // the bytes as they are stored
  );
  if (answer.status !== 200) throw await refusalOf(answer);
  return answer;
}

/** Where a file goes within the folder or tar. A UID that is not digits and dots could climb out: it is named by its digest. */
export const fileName = ({ study, series, instance }: Target): string =>
  `${safe(study)}/${safe(series)}/${safe(instance)}.dcm`;
const safe = (uid: string): string =>
  /^[0-9.]{1,64}$/.test(uid) && !/^\.+$/.test(uid) ? uid : createHash('sha256').update(uid).digest('hex').slice(0, 40);
