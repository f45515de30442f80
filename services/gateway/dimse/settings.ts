import { LIMITS, type Limits } from '#dimse/limits.ts';
import type { Settings, SettingsTable } from '#platform/module.ts';
import { isLoopback, listenHosts } from '#platform/net.ts';

/** The limits of the upper layer, under the names that its own table gives them. */
const limitSettings: SettingsTable = Object.fromEntries(
  Object.entries(LIMITS).map(([name, row]) => [
    `dimse.${name}`,
    {
      type: row.unit === 'count' ? 'integer' : row.unit,
      default: row.default,
      min: row.min,
      max: row.max,
      limit: true,
      reload: true,
      doc: sentence(row.reason),
    },
  ]),
);

export const limitsFrom = (settings: Settings): Limits =>
  Object.fromEntries(Object.keys(LIMITS).map((name) => [name, settings.number(`dimse.${name}`)])) as Limits;

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

export const dimseSettings: SettingsTable = {
  ...limitSettings,
  'dimse.port': {
    type: 'integer',
    default: 11112,
    min: 0,
    max: 65535,
    doc: 'Port of the DICOM door; 0 takes a free one. 11112 is registered for DICOM and needs no root.',
  },
  'dimse.host': {
    type: 'string',
    default: '127.0.0.1,::1',
    doc: 'Addresses to listen on, loopback by default. Beyond it only configured peers are served unless `dimse.acceptUnknown`.',
  },
  'dimse.aeTitle': {
    type: 'string',
    default: 'GANTRY',
    env: 'GANTRY_AE_TITLE',
    doc: 'Our AE title: what modalities call, and what we call ourselves.',
  },
  'dimse.acceptAnyCalledTitle': {
    type: 'boolean',
    default: false,
    reload: true,
    doc: 'Serve callers that use another name for us; otherwise they get A-ASSOCIATE-RJ 1/1/7.',
  },
  'dimse.acceptUnknown': {
    type: 'boolean',
    default: false,
    reload: true,
    doc: 'Serve AE titles that are not under `peers` beyond loopback too; on loopback everybody is served.',
  },
  'dimse.associationsMax': {
    type: 'integer',
    default: 512,
    min: 1,
    max: 65535,
    reload: true,
    limit: true,
    doc: 'Open associations in all; the next one gets A-ASSOCIATE-RJ 2/3/2 (transient). Modalities hold theirs for hours.',
  },
  'dimse.associationsPerPeerMax': {
    type: 'integer',
    default: 64,
    min: 1,
    max: 65535,
    reload: true,
    limit: true,
    doc: 'Open associations of one AE title at one address (A-ASSOCIATE-RJ 2/3/2), so that one broken modality cannot lock the others out.',
  },
  'dimse.identifierMax': {
    type: 'bytes',
    default: 4194304,
    min: 4096,
    limit: true,
    reload: true,
    doc: 'Longest identifier of a query, retrieval or commitment request; room for the 20,000 references of one commitment request.',
  },
  'dimse.findRowsMax': {
    type: 'integer',
    default: 100000,
    min: 1,
    reload: true,
    limit: true,
    doc: 'Matches of one C-FIND; beyond it the final status is A700 so that nobody takes a cut list for a whole one.',
  },
  'dimse.pendingMs': {
    type: 'ms',
    default: 5000,
    min: 100,
    max: 10000,
    doc: 'A pending C-MOVE or C-GET response goes out at least this often, so that no caller gives up while a destination is slow.',
  },
  'dimse.retrievesMax': {
    type: 'integer',
    default: 32,
    min: 1,
    reload: true,
    limit: true,
    doc: 'C-MOVE and C-GET at work at once; a further one gets A701 and may try again. Never more than half of dimse.associationsMax: retrieving never takes what storing needs.',
  },
  'dimse.drainIdleMs': {
    type: 'ms',
    default: 3_000,
    min: 0,
    max: 3_600_000,
    doc: 'After SIGTERM associations go on until their peer releases them, within platform.drainMs; one on which nothing happened for so long is aborted. 3 s is more than a pause between two instances; in a cluster set it as long as platform.drainMs.',
  },
  'dimse.commitmentReferencesMax': {
    type: 'integer',
    default: 20000,
    min: 1,
    limit: true,
    reload: true,
    doc: 'Instances in one storage commitment request; more is refused with 0213.',
  },
};

export function checkDimseSettings(settings: Settings): string[] {
  const problems: string[] = [];
  const title = settings.string('dimse.aeTitle');
  if (!/^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$/.test(title)) {
    problems.push('dimse.aeTitle (GANTRY_AE_TITLE) is no AE title: 1 to 16 characters, no backslash (PS3.5 §6.2).');
  }
  const beyond = listenHosts(settings.string('dimse.host')).filter((host) => !isLoopback(host));
  const peers = settings.value<unknown[]>('peers');
  if (beyond.length > 0 && peers.length === 0 && !settings.boolean('dimse.acceptUnknown')) {
    problems.push(
      `dimse.host is ${beyond.join(', ')}, which others can reach, but no peers are configured, so nobody could call: list your modalities under peers: in gantry.yaml, ` +
        'or set dimse.acceptUnknown: true to serve any AE title.',
    );
  }
  if (settings.number('dimse.associationsPerPeerMax') > settings.number('dimse.associationsMax')) {
    problems.push('dimse.associationsPerPeerMax is above dimse.associationsMax: lower the first or raise the second.');
  }
  return problems;
}
