import ArgumentParser
import KubeAPI
import KubeClient
import Scheduler

#if canImport(Glibc)
  import Glibc
#endif

/// `martlet explain`: why a pod goes where it goes, or nowhere.
struct ExplainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "explain",
    abstract: "Print the whole scheduling decision for a pod: each node, each filter, each score.",
    discussion: """
      The decision is made anew, by the scheduler's own functions, from what the API server says now. For a pod
      that has a node already it is the decision that would be made if it hadn't.

        martlet explain pod/web-6d4cf56db6-x2x9k
        martlet explain pod/web -n shop --kubeconfig martlet-data/kubeconfig
      """)

  @Argument(help: "The pod, as pod/NAME or NAME.")
  var pod: String

  @Option(name: [.short, .long], help: "The pod's namespace.")
  var namespace = "default"

  @Option(help: "Kubeconfig file (default: the environment variable KUBECONFIG).")
  var kubeconfig: String?

  func run() async throws {
    let name = try podName()
    guard let path = kubeconfig ?? getenv("KUBECONFIG").map({ String(cString: $0) }), !path.isEmpty
    else { throw UsageFailure("no kubeconfig: give --kubeconfig or set KUBECONFIG") }
    let client: APIClient
    do {
      client = try APIClient(Kubeconfig(path: path), userAgent: "martlet-explain")
    } catch {
      throw StartFailure("\(error)")
    }
    do {
      print(try await explain(name, client))
    } catch let error as StatusError {
      throw StartFailure("Error from server (\(error.reason)): \(error.message)")
    } catch {
      throw StartFailure("\(error)")
    }
  }

  private func podName() throws -> String {
    let parts = pod.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    if parts.count == 1 { return pod }
    guard parts.count == 2, ["pod", "pods", "po"].contains(parts[0]), !parts[1].isEmpty else {
      throw UsageFailure("'\(pod)' is no pod: say pod/NAME")
    }
    return parts[1]
  }

  private func explain(_ name: String, _ client: APIClient) async throws -> String {
    let wanted = PodView(try await client.get(.pods, namespace: namespace, name: name))
    let nodes = try await client.list(.nodes)["items"].elements
    let pods = try await client.list(.pods)["items"].elements.filter {
      AnyObjectView($0).uid != wanted.uid
    }
    let namespaces = try await client.list(.namespaces)["items"].elements
    let budgets = try await client.list(.disruptionBudgets)["items"].elements
    var unbound = wanted.object
    unbound["spec"]["nodeName"] = .null
    let explanation = Explanation(
      PodView(unbound), ClusterSnapshot(nodes: nodes, pods: pods, namespaces: namespaces),
      budgets: budgets)
    var text = explanation.text
    if !wanted.nodeName.isEmpty { text += "\nThe pod is on \(wanted.nodeName)." }
    if wanted.isFinished { text += "\nThe pod has ended (\(wanted.phase.rawValue))." }
    if wanted.schedulerName != "default-scheduler" {
      text += "\nIt is another scheduler's to decide: \(wanted.schedulerName)."
    }
    return text
  }
}
