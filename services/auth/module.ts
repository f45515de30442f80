import type { Context, Module, Running } from '#platform/module.ts';
import { AuthService } from '#proto/auth/v1/auth.ts';
import { authenticate } from './authenticate.ts';
import { authorize } from './authorize.ts';
import { authSettings, checkAuthSettings } from './settings.ts';
import { openTokens } from './tokens.ts';

/** Who may: doors authenticate, services authorize. */
export const authModule: Module = {
  name: 'auth',
  settings: authSettings,
  check: checkAuthSettings,
  async start(context: Context): Promise<Running> {
    const { settings, log } = context;
    const file = settings.string('http.tokenFile');
    const tokens = file === '' ? undefined : await openTokens(file, () => settings.number('auth.tokensMax'), log);
    const refusals = context.metrics.counter(
      'gantry_auth_refusals_total',
      'Refused authentications by what was presented',
    );
    context.serve(AuthService, {
      async authenticate(_call, request) {
        try {
          return { principal: await authenticate(settings, tokens, request) };
        } catch (error) {
          refusals.add(1, { evidence: request.evidence?.$case ?? 'none' });
          throw error;
        }
      },
      authorize: async (_call, request) => authorize(request),
    });
    return { stop: async () => {} };
  },
};
