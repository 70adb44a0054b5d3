//! The one guarded way to tenants' data.
//!
//! Every use of the database is one transaction that [`TenantDatabases::transact`] opens, as the tenant's role and in its
//! schema, in a task of its own: a client that leaves cancels nothing half-way. It commits only after success. A
//! connection goes back to the pool only after a COMMIT or ROLLBACK that the server confirmed; any other one is closed.

mod error;
pub mod history;
mod instances;
mod pool;
pub mod portable;
pub mod settings;
pub mod statements;

pub use error::DatabaseError;
pub use pool::Pool;

use crate::agent_api::registry::{Cell, follow::ServedRegistry, tenant::Tenant};
use error::{Cause, is_rolled_back, resolve_cause};
use pool::Borrowed;
use sqlx::{AssertSqlSafe, PgConnection};
use std::{sync::Arc, time::Duration};
use tokio_util::task::TaskTracker;

/// What a network may add to the longest statement before the whole transaction is given up.
const NETWORK_GRACE: Duration = Duration::from_secs(5);

/// Tenants' databases.
#[derive(Clone)]
pub struct TenantDatabases {
    pool: Arc<Pool>,
    tasks: TaskTracker,
}

/// A tenant, and where the login is found that reaches it.
#[derive(Clone)]
pub struct Access {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// Holds its cell. A request may last longer than a login, so each transaction reads it again.
    pub registry: ServedRegistry,
}

impl Access {
    /// The login to use now. Where the tenant was deleted and recreated meanwhile, its schema may have the same name and
    /// holds another tenant's data.
    fn cell(&self) -> Result<Arc<Cell>, DatabaseError> {
        let name = &self.tenant.place.cell;
        let snapshot = self.registry.snapshot();
        if snapshot.tenants.get(&self.tenant.id).is_some_and(|now| now.incarnation != self.tenant.incarnation) {
            return Err(DatabaseError::Replaced);
        }
        snapshot.cells.get(name).map(Arc::clone).ok_or_else(|| DatabaseError::NoCell(name.clone()))
    }
}

/// The bound statements of one transaction. They run a second time if nothing was committed the first time.
pub trait Transaction: Send + Sync + 'static {
    /// What it reads or reports.
    type Output: Send + 'static;

    /// Runs the statements.
    ///
    /// # Errors
    /// The driver's; the transaction is rolled back then.
    fn run(&self, at: Connection<'_>) -> impl Future<Output = Result<Self::Output, sqlx::Error>> + Send;
}

impl<T: Transaction> Transaction for Arc<T> {
    type Output = T::Output;

    fn run(&self, at: Connection<'_>) -> impl Future<Output = Result<T::Output, sqlx::Error>> + Send {
        self.as_ref().run(at)
    }
}

/// A connection inside a tenant's transaction.
pub struct Connection<'c> {
    /// The connection.
    pub connection: &'c mut PgConnection,
    /// Whether statements should be prepared once per connection.
    pub prepared: bool,
}

/// How one try ended.
enum Try<T> {
    Done(T),
    Again(DatabaseError),
    Failed(DatabaseError),
}

impl TenantDatabases {
    /// Tenants' databases through this pool; transactions run in `tasks`.
    pub fn new(pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        Self { pool, tasks }
    }

    /// The pool, for metrics and sweeping.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Runs one transaction of a tenant. Committed if and only if this returns `Ok`, but for
    /// [`DatabaseError::OutcomeUnknown`]. Dropping the future doesn't stop the transaction.
    ///
    /// # Errors
    /// When there is no connection in time, or the server says no; nothing is changed then.
    pub async fn transact<T: Transaction>(&self, access: &Access, work: T) -> Result<T::Output, DatabaseError> {
        let (pool, access) = (Arc::clone(&self.pool), access.clone());
        let task = self.tasks.spawn(async move {
            let timeout = Duration::from_millis(pool.settings().acquire_timeout_millis);
            let permit = tokio::time::timeout(timeout, access.tenant.place.permits.acquire());
            let _permit = permit.await.map_err(|_| DatabaseError::TenantBusy)?.map_err(|_| DatabaseError::Abandoned)?;
            match attempt(&pool, &access, &work).await {
                Try::Done(value) => Ok(value),
                Try::Failed(error) => Err(error),
                Try::Again(error) => {
                    tracing::debug!(error = %crate::telemetry::Chain(&error), "running a transaction a second time");
                    match attempt(&pool, &access, &work).await {
                        Try::Done(value) => Ok(value),
                        Try::Failed(error) | Try::Again(error) => Err(error),
                    }
                }
            }
        });
        task.await.unwrap_or(Err(DatabaseError::Abandoned))
    }
}

async fn attempt<T: Transaction>(pool: &Arc<Pool>, access: &Access, work: &T) -> Try<T::Output> {
    let mut borrowed = match pool.borrow(|| access.cell()).await {
        Ok(borrowed) => borrowed,
        Err(error) => return Try::Failed(error),
    };
    let reused = borrowed.reused;
    let limit = access.tenant.place.limits.statement_timeout() + NETWORK_GRACE;
    let prepared = pool.settings().prepared_statements;
    let outcome = tokio::time::timeout(limit, transaction(&mut borrowed, access, work, prepared)).await;
    match outcome {
        Ok(Ok(value)) => {
            borrowed.hand_back();
            Try::Done(value)
        }
        // Dropping `borrowed` closes the connection in the middle of whatever it does.
        Err(_) => {
            borrowed.note_no_answer();
            Try::Failed(DatabaseError::TooSlow(None))
        }
        Ok(Err(TransactionFailure::Commit(error))) if !is_rolled_back(&error) => {
            Try::Failed(DatabaseError::OutcomeUnknown(error))
        }
        Ok(Err(TransactionFailure::Work(error) | TransactionFailure::Commit(error))) => {
            let cause = resolve_cause(&error);
            match cause {
                Cause::Dead => pool.forget_idle(&access.tenant.place.cell),
                // Closing the connection also drops the plans that no longer fit.
                Cause::StalePlan => {}
                Cause::GivenUp | Cause::Slow | Cause::Refused | Cause::Statement => roll_back(borrowed).await,
            }
            let again = cause.is_retryable(reused);
            let error = cause.wrap(error);
            if again { Try::Again(error) } else { Try::Failed(error) }
        }
    }
}

enum TransactionFailure {
    /// Before COMMIT was sent: nothing has happened.
    Work(sqlx::Error),
    /// COMMIT was sent and not confirmed.
    Commit(sqlx::Error),
}

async fn transaction<T: Transaction>(
    borrowed: &mut Borrowed,
    access: &Access,
    work: &T,
    prepared: bool,
) -> Result<T::Output, TransactionFailure> {
    let gone = || TransactionFailure::Work(sqlx::Error::PoolClosed);
    let begin = AssertSqlSafe(Arc::clone(&access.tenant.place.begin));
    let connection = borrowed.connection().ok_or_else(gone)?;
    sqlx::raw_sql(begin).execute(&mut *connection).await.map_err(TransactionFailure::Work)?;
    let value =
        work.run(Connection { connection: &mut *connection, prepared }).await.map_err(TransactionFailure::Work)?;
    sqlx::raw_sql("COMMIT").execute(connection).await.map_err(TransactionFailure::Commit)?;
    Ok(value)
}

/// Ends a failed transaction; hands the connection back only if the server confirms that.
async fn roll_back(mut borrowed: Borrowed) {
    let Some(connection) = borrowed.connection() else { return };
    let ended = tokio::time::timeout(NETWORK_GRACE, sqlx::raw_sql("ROLLBACK").execute(connection)).await;
    if matches!(ended, Ok(Ok(_))) {
        borrowed.hand_back();
    }
}
