import type { Settings, SettingsTable } from '#platform/module.ts';
import { isLoopback } from '#platform/net.ts';
import { addressMatcher } from './peer.ts';

export const httpSettings = {
  'http.port': {
    type: 'integer',
    default: 8080,
    min: 0,
    max: 65535,
    doc: 'Port of DICOMweb, the API and the web pages; 0 takes a free one.',
  },
  'http.host': {
    type: 'string',
    default: 'localhost',
    doc: 'Address to listen on; `localhost` is loopback on IPv4 and IPv6. Anything else needs `http.tokenFile` or `http.allowUnauthenticated`.',
  },
  'http.tokenFile': {
    type: 'path',
    default: '',
    doc: 'File with one bearer token a line; requests need one of them. Read again when it changes.',
  },
  'http.allowUnauthenticated': {
    type: 'boolean',
    default: false,
    doc: 'Serve without a token beyond loopback: only behind something that authenticates.',
  },
  'http.hosts': {
    type: 'list',
    default: [],
    doc: 'Names that the Host header may carry besides loopback names and `http.host`: a page on another name cannot reach the archive through a browser (DNS rebinding). `*` takes any.',
  },
  'http.publicUrl': {
    type: 'string',
    default: '',
    doc: 'Origin that clients reach this archive under, such as `https://pacs.example`: every URL in an answer begins with it. Empty: what each client asked for.',
  },
  'http.trustedProxies': {
    type: 'list',
    default: [],
    doc: 'Addresses or networks whose X-Forwarded-For, -Host and -Proto are believed; none by default, since anybody can send such a header.',
  },
  'http.refusedBodyMax': {
    type: 'bytes',
    default: 268435456,
    min: 0,
    limit: true,
    doc: 'Body of a refused request that is still read and thrown away, so that a client that sends first and reads later gets its answer; beyond it the connection is closed.',
  },
  'http.corsOrigins': {
    type: 'list',
    default: [],
    doc: 'Origins whose pages may call DICOMweb from a browser; none by default.',
  },
  'http.qidoNoMatch': {
    type: 'enum',
    values: ['200', '204'],
    default: '200',
    doc: 'Answer to a search without a match: 200 with `[]` (CP-2473; viewers break on 204) or 204 (PS3.18 §8.3.4.4.1).',
  },
  'http.searchLimit': {
    type: 'integer',
    default: 1000,
    min: 1,
    max: 10000,
    reload: true,
    limit: true,
    doc: 'Rows of a search that asks for no limit; Warning 299 says that more remain.',
  },
  'http.searchLimitMax': {
    type: 'integer',
    default: 10000,
    min: 1,
    max: 10000,
    reload: true,
    limit: true,
    doc: 'Rows of a search that asks for more than this; Warning 299 says that the page was cut.',
  },
  'http.framesMax': {
    type: 'integer',
    default: 4096,
    min: 1,
    max: 100000,
    reload: true,
    limit: true,
    doc: 'Frames in one request; more is 400: a longer list does not fit a URL that proxies take.',
  },
  'http.jsonBodyMax': {
    type: 'bytes',
    default: 1048576,
    min: 1024,
    limit: true,
    doc: 'Body of an API request that is no image; more is 413.',
  },
  'http.headersMax': {
    type: 'bytes',
    default: 32768,
    min: 4096,
    limit: true,
    doc: 'Request line and headers; more is 431. Room for long UID lists.',
  },
  'http.connectionsMax': {
    type: 'integer',
    default: 1024,
    min: 8,
    limit: true,
    doc: 'Open connections; a further one is closed at once. Each costs a descriptor and about 20 kB.',
  },
  'http.headersTimeoutMs': {
    type: 'ms',
    default: 15000,
    min: 100,
    limit: true,
    doc: 'From the first byte of a request to the end of its headers; then 408. Cuts off one byte a second.',
  },
  'http.bodyIdleMs': {
    type: 'ms',
    default: 60000,
    min: 100,
    limit: true,
    doc: 'Silence within a request body, or a reader that takes nothing of an answer; then the connection is closed.',
  },
  'http.viewerDir': {
    type: 'path',
    default: '',
    doc: "Folder of the OHIF dist served at /viewer; empty: where `make setup` puts it in the user's cache.",
  },
  'http.keepAliveMs': {
    type: 'ms',
    default: 65000,
    min: 1000,
    doc: 'An idle connection is kept this long: above the 60 s of common load balancers, so that they close first.',
  },
} satisfies SettingsTable;

/** Impossible pairs: an archive that anyone on the network can read is never an accident. */
export function checkHttpSettings(settings: Settings): string[] {
  const problems: string[] = [];
  const open = settings.string('http.tokenFile') === '' && !settings.boolean('http.allowUnauthenticated');
  if (!isLoopback(settings.string('http.host')) && open) {
    problems.push(
      `http.host is ${settings.string('http.host')}, which others can reach, and nothing asks who they are: set http.tokenFile to a file with a bearer token a line, ` +
        'or http.allowUnauthenticated: true if something in front of Gantry authenticates, or http.host: localhost.',
    );
  }
  try {
    addressMatcher(settings.list('http.trustedProxies'));
  } catch (error) {
    problems.push(`http.trustedProxies: ${(error as Error).message}`);
  }
  const publicUrl = settings.string('http.publicUrl');
  if (publicUrl !== '' && !/^https?:\/\/[^/\s?#@]+\/?$/.test(publicUrl))
    problems.push('http.publicUrl is no origin: a scheme, a name and perhaps a port, such as https://pacs.example.');
  if (settings.number('http.searchLimit') > settings.number('http.searchLimitMax')) {
    problems.push('http.searchLimit is above http.searchLimitMax: lower the first or raise the second.');
  }
  return problems;
}
