import type { Settings, SettingsTable } from '#platform/module.ts';

/**
 * The doors declare these too, under the same keys: whether a door may be opened beyond loopback is theirs to check, whom it lets in
 * is decided here, and both may run in different processes. Type and default must agree (mergeTables says so).
 */
export const authSettings: SettingsTable = {
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
  'dimse.acceptUnknown': {
    type: 'boolean',
    default: false,
    reload: true,
    doc: 'Serve AE titles that are not under `peers` beyond loopback too; on loopback everybody is served.',
  },
  'auth.tokensMax': {
    type: 'integer',
    default: 1_000,
    min: 1,
    max: 100_000,
    limit: true,
    doc: 'Tokens in http.tokenFile: each request is compared with all of them, in constant time.',
  },
};

export function checkAuthSettings(settings: Settings): string[] {
  return settings.string('http.tokenFile') !== '' && settings.boolean('http.allowUnauthenticated')
    ? [
        'http.tokenFile and http.allowUnauthenticated are both set, so a token would never be needed: remove one of them',
      ]
    : [];
}
