import { type Command, EXIT, usage } from '../command.ts';
import { printable, table } from '../table.ts';

interface Peers {
  peers: { aeTitle: string; host: string; port: number; services: string[] }[];
  acceptsUnknown: boolean;
  aeTitle: string;
  host: string;
  port: number;
}

export const peersCommand: Command = {
  usage: '',
  summary: 'the configured DICOM peers, and our own AE title and address',
  text: `Peers stand in gantry.yaml under peers:; a HUP lets the server read them again.`,
  examples: [{ line: 'gantry peers', says: 'who may call, and who can be called' }],
  options: {},
  takes: { least: 0, most: 0 },
  async run(house) {
    const answer = await house.client.json<Peers>('GET', '/api/v1/peers');
    if (house.json) {
      house.printJson(answer);
      return EXIT.ok;
    }
    house.print(
      `We are ${printable(answer.aeTitle)} at ${printable(answer.host)} port ${answer.port}; ${answer.acceptsUnknown ? 'unknown callers are taken' : 'only these peers may call'}\n`,
    );
    if (answer.peers.length === 0) house.note('no peers are configured (peers: in gantry.yaml)\n');
    else
      house.print(
        table(answer.peers, [
          { title: 'AE TITLE', value: (peer) => peer.aeTitle },
          { title: 'HOST', value: (peer) => peer.host },
          { title: 'PORT', value: (peer) => peer.port || '', right: true },
          { title: 'SERVICES', value: (peer) => peer.services.join(' ') },
        ]),
      );
    return EXIT.ok;
  },
};

interface Echo {
  aeTitle: string;
  ok: boolean;
  detail: string;
  milliseconds: number;
}

export const echoCommand: Command = {
  usage: 'PEER… | --all',
  summary: 'C-ECHO from the server to configured peers',
  text: `The server calls them, from where it runs, as it would for C-MOVE. Exit code 1 when one of them does not answer well.`,
  examples: [
    { line: 'gantry echo CT1', says: 'one peer' },
    { line: 'gantry echo --all', says: 'every peer that has a host' },
  ],
  options: { all: { type: 'boolean', doc: 'every configured peer that has a host' } },
  takes: { least: 0, most: Number.POSITIVE_INFINITY },
  async run(house, given) {
    if (given.flag('all') === given.positionals.length > 0) throw usage('name the peers, or say --all');
    let titles = given.positionals;
    if (given.flag('all')) {
      const { peers } = await house.client.json<Peers>('GET', '/api/v1/peers');
      titles = peers.filter((peer) => peer.host !== '').map((peer) => peer.aeTitle);
      if (titles.length === 0) house.note('no peer with a host is configured (peers: in gantry.yaml)\n');
    }
    const rows: Echo[] = await Promise.all(
      titles.map(async (aeTitle) => ({
        aeTitle,
        ...(await house.client.json<Omit<Echo, 'aeTitle'>>(
          'POST',
          `/api/v1/peers/${encodeURIComponent(aeTitle)}/echo`,
        )),
      })),
    );
    if (house.json) house.printJson(rows);
    else if (rows.length > 0)
      house.print(
        table(rows, [
          { title: 'PEER', value: (row) => row.aeTitle },
          { title: 'ECHO', value: (row) => (row.ok ? 'ok' : 'FAILED') },
          { title: 'MS', value: (row) => row.milliseconds.toFixed(1), right: true },
          { title: 'SAYS', value: (row) => row.detail, max: 100 },
        ]),
      );
    return rows.every((row) => row.ok) ? EXIT.ok : EXIT.failed;
  },
};
