// What a scenario knows of the Gantry that it runs against, and the two ways to come by one: start it here, or be told where it is.
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { isLoopback } from '#platform/net.ts';
import { freePort, type GantryServer, startServer } from '../server.ts';

/** One address, however many processes stand behind it: no scenario may ask how many, or which kind. */
export interface Deployment {
  readonly http: string; // origin
  readonly token: string; // empty: it asks for none
  readonly dimse: Address & { aeTitle: string };
  /** Where somebody whose AE title is not configured calls, and what then: on loopback everybody is served. */
  readonly stranger: Address & { refused: boolean };
  /** Where we listen for C-MOVE and commitment reports; the deployment reaches it under the peer's host and port. */
  readonly receiver: Address & { aeTitle: string };
  close(): Promise<void>;
}
export interface Address {
  host: string;
  port: number;
}

/** AE titles that call. What each of them is to the deployment is in `peersYaml`. */
export const TITLES = {
  sender: 'SCENARIO_SCU',
  /** Another one: what the sender stored is nothing that its queries wait for. */
  reader: 'SCENARIO_READ',
  /** Wants its commitment reports on the association of the request. */
  same: 'SCENARIO_SAME',
  receiver: 'SCENARIO_SCP',
  stranger: 'SCENARIO_WHO',
} as const;

/** The lines of gantry.yaml that a deployment needs for these scenarios. */
export function peersYaml(receiver: Address & { aeTitle: string }): string {
  return [
    'peers:',
    `  - aeTitle: ${TITLES.sender}`,
    `  - aeTitle: ${TITLES.reader}`,
    `  - aeTitle: ${TITLES.same}`,
    '    commitment: same',
    `  - aeTitle: ${receiver.aeTitle}`,
    `    host: ${receiver.host}`,
    `    port: ${receiver.port}`,
    '',
  ].join('\n');
}

/** What starts a Gantry with a gantry.yaml: startServer here, startCluster there. */
export type Start = (options: { yaml: string }) => Promise<Pick<GantryServer, 'origin' | 'dimsePort' | 'close'>>;

/** Started for this run, and ended with it. */
export async function started(start: Start): Promise<Deployment> {
  const receiver = { aeTitle: TITLES.receiver, host: '127.0.0.1', port: await freePort() };
  const beyond = addressOfThisMachine();
  const hosts = beyond === undefined ? '127.0.0.1' : `127.0.0.1,${beyond}`;
  const server = await start({ yaml: `dimse:\n  host: ${hosts}\n${peersYaml(receiver)}` });
  return {
    http: server.origin,
    token: '',
    dimse: { aeTitle: 'GANTRY', host: '127.0.0.1', port: server.dimsePort },
    stranger: { host: beyond ?? '127.0.0.1', port: server.dimsePort, refused: beyond !== undefined },
    receiver,
    close: () => server.close(),
  };
}

export const embedded = (): Promise<Deployment> => started(startServer);

/** Any Gantry that runs already: environment variables say where (README.md). It keeps running. */
export async function external(env: NodeJS.ProcessEnv = process.env): Promise<Deployment> {
  const dimse = addressIn(env, 'GANTRY_SCENARIO_DIMSE');
  const tokenFile = env.GANTRY_SCENARIO_TOKEN_FILE;
  return {
    http: new URL(required(env, 'GANTRY_SCENARIO_HTTP')).origin,
    token: tokenFile === undefined ? '' : readFileSync(tokenFile, 'utf8').split('\n')[0]!.trim(),
    dimse: { ...dimse, aeTitle: env.GANTRY_SCENARIO_AE_TITLE ?? 'GANTRY' },
    stranger: { ...dimse, refused: !isLoopback(dimse.host) && env.GANTRY_SCENARIO_ACCEPTS_UNKNOWN !== 'true' },
    receiver: receiverIn(env),
    close: async () => {},
  };
}

/** Several runs against one deployment at once need a receiver each: another title, another port. */
export function receiverIn(env: NodeJS.ProcessEnv): Address & { aeTitle: string } {
  return {
    aeTitle: env.GANTRY_SCENARIO_PEER_AE_TITLE ?? TITLES.receiver,
    host: env.GANTRY_SCENARIO_PEER_HOST ?? '127.0.0.1',
    port: Number(env.GANTRY_SCENARIO_PEER_PORT ?? 11113),
  };
}

function required(env: NodeJS.ProcessEnv, name: string): string {
  const value = env[name];
  if (value === undefined || value === '') throw new Error(`${name} is not set (tools/peers/README.md)`);
  return value;
}

function addressIn(env: NodeJS.ProcessEnv, name: string): Address {
  const match = /^\[?(.+?)\]?:(\d{1,5})$/.exec(required(env, name));
  if (match === null) throw new Error(`${name} is no host:port`);
  return { host: match[1]!, port: Number(match[2]) };
}

/** Strangers are refused beyond loopback only, so that is tried where this machine has another address. */
function addressOfThisMachine(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((one) => one ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
}
