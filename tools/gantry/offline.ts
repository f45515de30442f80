// A stopped archive, opened in this process: the server's own modules without its doors. The lock of the data directory is theirs too.
import { existsSync } from 'node:fs';
import { systemCall } from '#platform/call.ts';
import { ConfigError, loadConfig } from '#platform/config.ts';
import { GantryError } from '#platform/errors.ts';
import { openHouse } from '#platform/process.ts';
import { createLog } from '#platform/telemetry.ts';
import { IndexService, type RebuildProgress } from '#proto/index/v1/index.ts';
import { KeeperService, type VerifyFinding } from '#proto/storage/v1/storage.ts';
import { authModule } from '../../services/auth/module.ts';
import { dimseModule } from '../../services/gateway/dimse/module.ts';
import { httpModule } from '../../services/gateway/http/module.ts';
import { indexModule } from '../../services/index/module.ts';
import { module as ingestModule } from '../../services/ingest/module.ts';
import { dataModule } from '../../services/storage/data/module.ts';
import { keeperModule } from '../../services/storage/keeper/module.ts';
import { type House as Cli, CommandFailure, EXIT } from './command.ts';
import { plain } from './plain.ts';

const MODULES = [authModule, dataModule, indexModule, keeperModule];
/** Started by nobody here, but their settings stand in the same gantry.yaml. */
const OTHERS = [ingestModule, dimseModule, httpModule];

export interface Offline {
  verify(studyInstanceUid: string, digests: boolean): AsyncGenerator<VerifyFinding>;
  rebuild(): AsyncGenerator<RebuildProgress>;
  close(): Promise<void>;
}

export async function openOffline(cli: Cli): Promise<Offline> {
  const log = createLog({
    level: 'warn',
    pretty: true,
    destination: { write: (line) => void cli.errors.write(line) },
  });
  try {
    const config = loadConfig(
      MODULES,
      cli.env,
      process.cwd(),
      OTHERS.map(({ settings }) => settings),
    );
    const dataDir = config.settings.string('dataDir');
    // A misspelt directory would otherwise be made, and found in perfect order.
    if (!existsSync(`${dataDir}/archive`))
      throw new CommandFailure(EXIT.failed, 'no-archive', `there is no archive in ${dataDir}: set GANTRY_DATA_DIR`);
    const house = await openHouse(config, MODULES, log, { role: 'offline', doors: false });
    const { context } = house.started;
    const call = { ...systemCall('main', 'cli'), signal: cli.signal };
    house.audit('Application Activity', 'cli.offline');
    return {
      verify: async function* (studyInstanceUid, digests) {
        for await (const one of context.client(KeeperService).verify(call, { studyInstanceUid, digests }))
          yield plain(one);
      },
      rebuild: async function* () {
        for await (const one of context.client(IndexService).rebuild(call, {})) yield plain(one);
      },
      close: () => house.close(),
    };
  } catch (error) {
    if (error instanceof ConfigError)
      throw new CommandFailure(
        EXIT.failed,
        'config',
        `the settings are wrong:\n${error.problems.map((one) => `  - ${one}`).join('\n')}`,
      );
    if (error instanceof GantryError)
      throw new CommandFailure(EXIT.failed, error.code, error.message, { cause: error });
    throw error;
  }
}
