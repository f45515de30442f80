// STOW-RS, one instance a request, so that each refusal has the name of its file.
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { wholeText } from './client.ts';
import { CommandFailure, EXIT } from './command.ts';
import { failed, type Post, parseAnswer } from './upload.ts';

type Item = Record<string, { Value?: unknown[] } | undefined>;

export const postStow: Post = async (client, body, signal) => {
  const boundary = `gantry-${randomUUID()}`;
  const open = () => {
    const file = body.open() as Readable;
    return Readable.from(
      (async function* () {
        yield Buffer.from(`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`);
        yield* file as AsyncIterable<Buffer>;
        yield Buffer.from(`\r\n--${boundary}--\r\n`);
      })(),
      { objectMode: false },
    );
  };
  const answer = await client.request('POST', '/dicom-web/studies', {
    headers: { accept: 'application/dicom+json' },
    body: { ...body, type: `multipart/related; type="application/dicom"; boundary=${boundary}`, open },
    signal,
  });
  const said = parseAnswer<Item & { error?: string; message?: string }>(await wholeText(answer));
  if (answer.status === 401 || answer.status === 403)
    throw new CommandFailure(
      EXIT.unreachable,
      'unauthenticated',
      'the server does not let us in (give a token: --token-file FILE)',
    );
  if (typeof said.error === 'string') return failed(said.error, said.message ?? `HTTP ${answer.status}`);
  // Failed SOP Sequence (0008,1198), and Other Failures Sequence (0008,119A) for what has no UIDs (PS3.18 Table 10.5.3-1)
  const refused = (said['00081198']?.Value?.[0] ?? said['0008119A']?.Value?.[0]) as Item | undefined;
  if (refused === undefined) return { kind: 'stored' };
  const reason = Number(refused['00081197']?.Value?.[0] ?? 0);
  if ((reason & 0xff00) === 0xa700) return failed('unavailable', 'the server is out of resources');
  const comment = refused['00000902']?.Value?.[0];
  return {
    kind: 'refused',
    code: reason.toString(16).padStart(4, '0').toUpperCase(),
    says:
      typeof comment === 'string'
        ? comment
        : (REASONS.find(([range]) => (reason & 0xf000) === range || reason === range)?.[1] ?? 'refused'),
  };
};

/** PS3.18 Table I.2-2, PS3.4 Table B.2-1. */
const REASONS: readonly (readonly [number, string])[] = [
  [0x0122, 'this SOP class is not stored'],
  [0xc122, 'this transfer syntax is not stored'],
  [0x0110, 'processing failure'],
  [0xa000, 'the data set does not match what was announced, or lacks identifiers'],
  [0xc000, 'the data set cannot be understood'],
];
