import { resolve } from 'node:path';
import { connect } from '#dimse/requestor.ts';
import { reachable, settingsHere } from '../client.ts';
import { type Command, EXIT, type House, usage } from '../command.ts';
import { Outcomes } from '../outcomes.ts';
import { pool } from '../pool.ts';
import { progress } from '../progress.ts';
import { batches, type Destination, sendBatch } from '../send.ts';
import { type Item, items, kindOf } from '../sources.ts';
import { postStow } from '../stow.ts';
import { interrupted, upload } from '../upload.ts';

const ASSOCIATIONS = 4;

export const sendCommand: Command = {
  usage: 'FOLDER|FILE…',
  summary: 'send files as a modality does: C-STORE (or STOW-RS with --stow)',
  text: `Sends to this Gantry, or to any DICOM archive with --host and --port, over several associations. The bytes go as they
are: each class is offered in the transfer syntax that its files have. More than 128 of these need more than one
association. To fill an archive, \`gantry import\` is faster, reads tar and zip, and goes on where it stopped.`,
  examples: [
    { line: 'gantry send ./study', says: 'to the Gantry on this machine' },
    { line: 'gantry send --host 10.0.0.7 --port 104 --called PACS --calling CT1 ./study', says: 'to another archive' },
    { line: 'gantry send --stow ./study', says: 'over DICOMweb' },
  ],
  options: {
    host: { type: 'string', value: 'HOST', doc: 'DICOM host (GANTRY_DIMSE_HOST, or 127.0.0.1)' },
    port: { type: 'string', value: 'PORT', doc: 'DICOM port (GANTRY_DIMSE_PORT, or 11112)' },
    called: { type: 'string', value: 'AE', doc: 'AE title of the receiver (GANTRY_AE_TITLE, or GANTRY)' },
    calling: { type: 'string', value: 'AE', doc: 'our AE title (GANTRYSCU)' },
    associations: {
      type: 'string',
      value: 'N',
      doc: `associations, or requests with --stow, at a time, 1 to 32 (${ASSOCIATIONS})`,
    },
    stow: { type: 'boolean', doc: 'STOW-RS to the server instead of C-STORE' },
  },
  takes: { least: 1, most: Number.POSITIVE_INFINITY },
  async run(house, given) {
    const paths = given.positionals.map((path) => resolve(path));
    for (const path of paths) {
      const kind = await kindOf(path);
      if (kind !== 'folder' && kind !== 'file') throw usage(`${path} is a ${kind}: \`gantry import\` reads archives`);
    }
    const atOnce = given.count('associations', ASSOCIATIONS, 32);
    const outcomes = new Outcomes();
    const bar = progress(house.errors, house.json);
    const show = () =>
      bar.show(
        outcomes.done,
        0,
        outcomes.bytes,
        outcomes.clean ? '' : `${outcomes.refusedCount + outcomes.failedCount} not taken`,
      );
    let ended: unknown;
    try {
      if (given.flag('stow')) await byStow(house, paths, atOnce, outcomes, show);
      else {
        const destination = destinationOf(
          house,
          given.text('host'),
          given.text('port'),
          given.text('called'),
          given.text('calling'),
        );
        await reached(destination, house.signal);
        for await (const batch of batches(items(paths, false), outcomes, house.signal)) {
          await sendBatch(destination, batch, atOnce, outcomes, house.signal, show);
        }
      }
    } catch (error) {
      ended = error;
    }
    bar.end();
    if (ended === undefined || outcomes.done > 0) outcomes.report(house, 'sent', { complete: ended === undefined });
    if (ended !== undefined) throw ended;
    return outcomes.clean ? EXIT.ok : EXIT.failed;
  },
};

async function byStow(
  house: House,
  paths: string[],
  atOnce: number,
  outcomes: Outcomes,
  show: () => void,
): Promise<void> {
  await house.client.json('GET', '/api/v1/status'); // told at once when nobody is there
  await pool(items(paths, false), atOnce, async (item: Item) => {
    if (house.signal.aborted) throw interrupted();
    const outcome = await upload(house.client, item, postStow, house.signal);
    if (outcome.kind === 'stored') {
      outcomes.stored++;
      outcomes.bytes += item.size;
    } else if (outcome.kind === 'no-dicom') outcomes.noDicom++;
    else if (outcome.kind === 'dicomdir') outcomes.dicomdir++;
    else if (outcome.kind === 'refused') outcomes.refuse({ label: item.label, ...outcome });
    else outcomes.fail({ label: item.label, ...outcome });
    show();
  });
}

function destinationOf(house: House, host?: string, port?: string, called?: string, calling?: string): Destination {
  const { env } = house;
  const file = settingsHere(env, process.cwd());
  const portText = port ?? (env.GANTRY_DIMSE_PORT || file('dimse', 'port') || '11112');
  if (!/^\d+$/.test(portText) || Number(portText) < 1 || Number(portText) > 65535)
    throw usage('--port is a number from 1 to 65535');
  const destination = {
    host: reachable(host ?? (env.GANTRY_DIMSE_HOST || file('dimse', 'host') || '127.0.0.1')).replace(
      /^\[(.*)\]$/,
      '$1',
    ),
    port: Number(portText),
    calledAeTitle: called ?? (env.GANTRY_AE_TITLE || file('dimse', 'aeTitle') || 'GANTRY'),
    callingAeTitle: calling ?? 'GANTRYSCU',
  };
  for (const [name, value] of [
    ['called', destination.calledAeTitle],
    ['calling', destination.callingAeTitle],
  ] as const)
    if (!/^[\x20-\x5b\x5d-\x7e]{1,16}$/.test(value)) throw usage(`--${name} is an AE title: 1 to 16 characters`);
  return destination;
}

/** One C-ECHO context first: whether anybody is there, and takes us, is told before files are read. */
async function reached(destination: Destination, signal: AbortSignal): Promise<void> {
  const association = await connect({
    ...destination,
    contexts: [{ abstractSyntax: '1.2.840.10008.1.1', transferSyntaxes: ['1.2.840.10008.1.2'] }],
    signal,
  });
  await association.release();
}
