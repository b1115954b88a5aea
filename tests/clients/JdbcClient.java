import java.io.StringWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/**
 * riskft through PostgreSQL's JDBC driver: each way of asking gives the same bits and the same
 * errors. Run as {@code java -cp postgresql.jar JdbcClient.java refusals.txt}; PGHOST, PGUSER and
 * so on say where the server is. Prints one JSON object a line.
 */
public class JdbcClient {
    static final String ALL = "SELECT risk_score('loan_risk', l) FROM loans l ORDER BY loan_id";
    static final String ANY = "SELECT risk_score(?, l) FROM loans l ORDER BY loan_id";
    static final String TRAIN = "CALL riskft_train(?, 'loans', 'defaulted',"
            + " exclude => '{loan_id,disbursed}', method => 'none', options => ?::jsonb, wait => ?)";
    static final String LONG = "{\"head_epochs\": 1000, \"patience\": 1000, \"hidden\": 512, \"members\": 8}";
    static final String QUICK = "{\"head_epochs\": 2, \"members\": 1, \"hidden\": 16,"
            + " \"gate\": {\"auc_loss\": 1, \"flips\": 1}}";

    public static void main(String[] arguments) throws Exception {
        List<String> refusals = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            refusals.add(line.substring(line.indexOf(' ') + 1));
        }
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            for (String threshold : new String[] {"0", "1", "5"}) {
                try (Connection db = connect("preferQueryMode", mode, "prepareThreshold", threshold)) {
                    waysOfAsking(db, mode + ", threshold " + threshold);
                }
            }
            try (Connection db = connect("preferQueryMode", mode)) {
                errors(db, mode, refusals);
            }
        }
        try (Connection db = connect("autosave", "always")) {
            errorsWithAutosave(db, refusals);
        }
        try (Connection db = connect()) {
            probes(db);
            copied(db);
        }
        training();
        cancelled();
        queued();
    }

    static Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        for (int i = 0; i < options.length; i += 2) {
            properties.setProperty(options[i], options[i + 1]);
        }
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
                + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection(url, properties);
    }

    static void waysOfAsking(Connection db, String way) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet found = statement.executeQuery(ALL)) {
            scores("statement, " + way, found);
        }
        try (PreparedStatement statement = db.prepareStatement(ANY)) {
            // From the sixth time on, the server may use a plan for any model name.
            for (int time = 1; time <= 7; time++) {
                statement.setString(1, time == 3 ? "loan_risk@1" : "loan_risk");
                try (ResultSet found = statement.executeQuery()) {
                    if (time == 3) {
                        scores("pinned version, " + way, found);
                    } else if (time == 7) {
                        scores("prepared, " + way, found);
                    }
                }
            }
        }
        db.setAutoCommit(false); // a cursor lives in a transaction
        try (PreparedStatement statement = db.prepareStatement(ANY)) {
            statement.setString(1, "loan_risk");
            statement.setFetchSize(23);
            try (ResultSet found = statement.executeQuery()) {
                scores("cursor, " + way, found);
            }
        }
        db.commit();
        db.setAutoCommit(true);
    }

    static void probes(Connection db) throws SQLException {
        db.setAutoCommit(false);
        try (PreparedStatement statement = db.prepareStatement(ALL)) {
            tell("probe metadata", "\"type\": " + quoted(statement.getMetaData().getColumnTypeName(1)));
        }
        Map<String, String> empty = Map.of(
                "probe limit 0", ALL + " LIMIT 0",
                "probe where 1=0", "SELECT * FROM (" + ALL + ") q(risk) WHERE 1=0");
        for (Map.Entry<String, String> probe : empty.entrySet()) {
            try (Statement statement = db.createStatement();
                    ResultSet found = statement.executeQuery(probe.getValue())) {
                tell(probe.getKey(), "\"type\": " + quoted(found.getMetaData().getColumnTypeName(1))
                                + ", \"rows\": " + (found.next() ? 1 : 0));
            }
        }
        try (Statement statement = db.createStatement();
                ResultSet found = statement.executeQuery("SELECT pg_current_xact_id_if_assigned()::text")) {
            found.next();
            tell("nothing written", "\"xid\": " + quoted(found.getString(1)));
        }
        db.commit();
    }

    static void copied(Connection db) throws Exception {
        StringWriter lines = new StringWriter();
        db.unwrap(PGConnection.class).getCopyAPI().copyOut("COPY (" + ALL + ") TO STDOUT", lines);
        List<String> bits = new ArrayList<>();
        for (String line : lines.toString().split("\n")) {
            bits.add(bits(Double.parseDouble(line)));
        }
        tell("copy", "\"bits\": " + bits);
    }

    /** Each refusal with autocommit, and within a savepoint of a transaction that goes on. */
    static void errors(Connection db, String mode, List<String> refusals) throws SQLException {
        for (int number = 0; number < refusals.size(); number++) {
            refused(db, "refused, autocommit, " + mode, number, refusals.get(number), null);
        }
        db.setAutoCommit(false);
        for (int number = 0; number < refusals.size(); number++) {
            Savepoint before = db.setSavepoint();
            refused(db, "refused, savepoint, " + mode, number, refusals.get(number), before);
        }
        db.rollback();
    }

    /** The driver sets the savepoints itself. */
    static void errorsWithAutosave(Connection db, List<String> refusals) throws SQLException {
        db.setAutoCommit(false);
        for (int number = 0; number < refusals.size(); number++) {
            refused(db, "refused, autosave", number, refusals.get(number), null);
        }
        db.rollback();
    }

    static void refused(Connection db, String what, int number, String sql, Savepoint before)
            throws SQLException {
        String told = "\"sqlstate\": null";
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            statement.execute();
        } catch (PSQLException error) {
            ServerErrorMessage server = error.getServerErrorMessage();
            told = "\"sqlstate\": " + quoted(error.getSQLState())
                    + ", \"message\": " + quoted(server.getMessage())
                    + ", \"detail\": " + quoted(server.getDetail())
                    + ", \"hint\": " + quoted(server.getHint());
        }
        if (before != null) {
            db.rollback(before);
        }
        boolean usable;
        try (Statement statement = db.createStatement(); ResultSet one = statement.executeQuery("SELECT 1")) {
            usable = one.next() && one.getInt(1) == 1;
        }
        tell(what, "\"refusal\": " + number + ", " + told + ", \"usable\": " + usable);
    }

    /** CALL returns one row; NOTICEs arrive as warnings. */
    static void training() throws SQLException {
        try (Connection db = connect();
                PreparedStatement statement = db.prepareStatement(TRAIN)) {
            db.setAutoCommit(false);
            statement.setString(1, "by_jdbc");
            statement.setString(2, QUICK);
            statement.setBoolean(3, true);
            try (ResultSet trained = statement.executeQuery()) {
                trained.next();
                tell("training", "\"version\": " + trained.getInt("version")
                        + ", \"auc\": " + trained.getDouble("auc")
                        + ", \"notices\": " + warnings(statement.getWarnings()).size());
            }
            db.rollback();
        }
        // The standard's way of calling: every INOUT parameter has its place.
        try (Connection db = connect("escapeSyntaxCallMode", "call");
                CallableStatement call = db.prepareCall("{call riskft_train(?, 'loans', 'defaulted', NULL,"
                        + " '{loan_id,disbursed}', NULL, 'none', 'minilm-l6', ?::jsonb, true, ?, ?, ?, ?)}")) {
            call.setString(1, "by_callable");
            call.setString(2, QUICK);
            int[] types = {Types.INTEGER, Types.DOUBLE, Types.DOUBLE, Types.BIGINT};
            for (int i = 0; i < types.length; i++) {
                call.setNull(3 + i, types[i]);
                call.registerOutParameter(3 + i, types[i]);
            }
            call.execute();
            tell("callable", "\"version\": " + call.getInt(3) + ", \"auc\": " + call.getDouble(4)
                    + ", \"run\": " + call.getLong(6));
        }
    }

    /** A query timeout is a cancel that the driver sends. */
    static void cancelled() throws SQLException {
        try (Connection db = connect(); PreparedStatement statement = db.prepareStatement(TRAIN)) {
            statement.setString(1, "by_jdbc");
            statement.setString(2, LONG);
            statement.setBoolean(3, true);
            statement.setQueryTimeout(1);
            String sqlstate = null;
            try {
                statement.execute();
            } catch (SQLException error) {
                sqlstate = error.getSQLState();
            }
            tell("cancelled", "\"sqlstate\": " + quoted(sqlstate)
                    + ", \"usable\": " + "1".equals(value(db, "SELECT 1")));
        }
    }

    /** A queued training starts at COMMIT: with autocommit off, that is the program's to say. */
    static void queued() throws SQLException {
        try (Connection db = connect(); Connection other = connect()) {
            db.setAutoCommit(false);
            long run;
            List<String> notices;
            try (PreparedStatement statement = db.prepareStatement(TRAIN)) {
                statement.setString(1, "by_jdbc");
                statement.setString(2, QUICK);
                statement.setBoolean(3, false);
                try (ResultSet queued = statement.executeQuery()) {
                    queued.next();
                    run = queued.getLong("run");
                }
                notices = warnings(statement.getWarnings());
            }
            String tooEarly = null;
            Savepoint before = db.setSavepoint();
            try (Statement statement = db.createStatement()) {
                statement.executeQuery("SELECT riskft_wait(" + run + ", '1 second')");
            } catch (SQLException error) {
                tooEarly = error.getSQLState();
                db.rollback(before);
            }
            String seen = value(other, "SELECT count(*) FROM riskft.runs WHERE run = " + run);
            db.commit();
            String state = value(db, "SELECT riskft_wait(" + run + ", '2 minutes')");
            List<String> told = new ArrayList<>();
            notices.forEach(notice -> told.add(quoted(notice)));
            tell("queued", "\"notices\": " + told + ", \"too_early\": " + quoted(tooEarly)
                    + ", \"before\": " + seen + ", \"state\": " + quoted(state));
        }
    }

    static String value(Connection db, String sql) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet found = statement.executeQuery(sql)) {
            found.next();
            return found.getString(1);
        }
    }

    static List<String> warnings(SQLWarning warning) {
        List<String> messages = new ArrayList<>();
        for (; warning != null; warning = warning.getNextWarning()) {
            messages.add(warning.getMessage());
        }
        return messages;
    }

    static void scores(String what, ResultSet found) throws SQLException {
        List<String> bits = new ArrayList<>();
        while (found.next()) {
            bits.add(bits(found.getDouble(1)));
        }
        tell(what, "\"bits\": " + bits + ", \"type\": " + quoted(found.getMetaData().getColumnTypeName(1)));
    }

    static String bits(double score) {
        return quoted(String.format("%016x", Double.doubleToRawLongBits(score)));
    }

    static void tell(String what, String told) {
        System.out.println("{\"case\": " + quoted(what) + ", " + told + "}");
    }

    /** A JSON string. */
    static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                json.append('\\').append(c);
            } else if (c < ' ') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
